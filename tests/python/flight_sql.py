"""Flight SQL's commands for pyarrow.flight: protobuf by hand, by the published numbers."""
import pyarrow.flight as flight

PREFIX = b"type.googleapis.com/arrow.flight.protocol.sql."


def varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out) + bytes([n])


def field(number, value):
    """A string or bytes; an int is a varint."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def command(name, *fields):
    return field(1, PREFIX + name.encode()) + field(2, b"".join(fields))


def statement(text):
    return flight.FlightDescriptor.for_command(command("CommandStatementQuery", field(1, text)))


class Client:
    """A pyarrow client that speaks SQL."""

    def __init__(self, port, options=None, **kwargs):
        scheme = "grpc+tls" if kwargs else "grpc"
        self.client = flight.connect(f"{scheme}://127.0.0.1:{port}", **kwargs)
        self.options = options

    def login(self, name, key):
        header = self.client.authenticate_basic_token(name, key)
        self.options = flight.FlightCallOptions(headers=[header])
        return header

    def info(self, name, *fields):
        descriptor = flight.FlightDescriptor.for_command(command(name, *fields))
        return self.client.get_flight_info(descriptor, self.options)

    def ask(self, name, *fields):
        info = self.info(name, *fields)
        table = self.client.do_get(info.endpoints[0].ticket, self.options).read_all()
        assert table.schema.equals(info.schema)
        table.validate(full=True)
        return table

    def reader(self, text):
        info = self.client.get_flight_info(statement(text), self.options)
        return self.client.do_get(info.endpoints[0].ticket, self.options)

    def query(self, text):
        table = self.reader(text).read_all()
        table.validate(full=True)
        return table

    def act(self, name, body=b""):
        return [bytes(result.body)
                for result in self.client.do_action(flight.Action(name, body), self.options)]

    def close(self):
        self.client.close()
