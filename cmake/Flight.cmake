# What SQL and Flight SQL are built with (HS_FLIGHT).
pkg_check_modules(PROTOBUF_C REQUIRED IMPORTED_TARGET libprotobuf-c)
find_program(PROTOC_C protoc-c REQUIRED)
include(Nanoarrow)
include(DuckDB)
