"""BERT's forward pass in numpy, for a GGUF file: what embeddings must be.

Written from the paper (Devlin et al., 2018, with the post-norm layers of Vaswani et al., 2017), in
double precision; the tokens are those of the tiny model of tests/support/tiny_bert.h.
"""
import math

import gguf
import numpy as np

CLS, SEP, UNK = 2, 3, 1


def tokenize(text):
    """A word is its first letter, then the letters within; anything else is unknown."""
    tokens = [CLS]
    for word in text.lower().split():
        if word.isascii() and word.isalpha():
            tokens.append(5 + ord(word[0]) - ord("a"))
            tokens += [5 + 26 + ord(letter) - ord("a") for letter in word[1:]]
        else:
            tokens.append(UNK)
    return tokens + [SEP]


class Bert:
    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.w = {t.name: np.array(t.data, dtype=np.float64) for t in reader.tensors}
        self.n_head = int(reader.fields["bert.attention.head_count"].contents())
        self.n_layer = int(reader.fields["bert.block_count"].contents())
        self.epsilon = float(reader.fields["bert.attention.layer_norm_epsilon"].contents())

    def norm(self, x, name):
        middle = x - x.mean(axis=1, keepdims=True)
        scale = np.sqrt((middle ** 2).mean(axis=1, keepdims=True) + self.epsilon)
        return middle / scale * self.w[name + ".weight"] + self.w[name + ".bias"]

    def linear(self, x, name):
        return x @ self.w[name + ".weight"].T + self.w[name + ".bias"]

    def attention(self, x, layer):
        q, k, v = (self.linear(x, f"blk.{layer}.attn_{name}") for name in "qkv")
        heads = []
        size = x.shape[1] // self.n_head
        for h in range(self.n_head):
            part = slice(h * size, (h + 1) * size)
            scores = q[:, part] @ k[:, part].T / math.sqrt(size)
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            heads.append(weights / weights.sum(axis=1, keepdims=True) @ v[:, part])
        return self.linear(np.hstack(heads), f"blk.{layer}.attn_output")

    def feed_forward(self, x, layer):
        x = self.linear(x, f"blk.{layer}.ffn_up")
        x = 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
        return self.linear(x, f"blk.{layer}.ffn_down")

    def hidden(self, tokens):
        x = self.w["token_embd.weight"][tokens] + self.w["token_types.weight"][0]
        x = self.norm(x + self.w["position_embd.weight"][:len(tokens)], "token_embd_norm")
        for layer in range(self.n_layer):
            x = self.norm(x + self.attention(x, layer), f"blk.{layer}.attn_output_norm")
            x = self.norm(x + self.feed_forward(x, layer), f"blk.{layer}.layer_output_norm")
        return x

    def embedding(self, tokens, pooling):
        x = self.hidden(tokens)
        return {"mean": x.mean(axis=0), "cls": x[0], "last": x[-1]}[pooling]

    def score(self, tokens):
        x = np.tanh(self.linear(self.hidden(tokens)[:1], "cls"))
        return float(self.linear(x, "cls.output").squeeze())
