"""What a schema cannot say of a request, said to schemathesis."""

import re
import unicodedata

import schemathesis

MOST_PARTS = 10_000
# Fields whose length is limited in bytes, where a schema counts characters; of a name also the segments.
MOST_BYTES = {"name": (1024, 255), "fingerprint": (128, 128), "key": (1024, 1024)}


@schemathesis.hook
def before_call(context, case, kwargs):
    case.body = whole_numbers(case.body)
    body = case.body
    for fields in (body, case.query):
        for name, (most, most_in_segment) in MOST_BYTES.items():
            if isinstance(fields, dict) and isinstance(fields.get(name), str):
                fields[name] = short_enough(fields[name], most, most_in_segment)
    if isinstance(body, dict) and case.operation.path == "/v1/uploads":
        size, part_size = body.get("size"), body.get("part_size")
        # A file of more parts than there can be is refused.
        if type(size) is int and type(part_size) is int and size > part_size * MOST_PARTS > 0:
            del body["part_size"]


def short_enough(text, most, most_in_segment):
    """The text, or where only its bytes are too many, as many of one byte each."""

    def fits(length):
        return length(text) <= most and all(length(segment) <= most_in_segment for segment in text.split("/"))

    def in_bytes(text):
        return len(unicodedata.normalize("NFC", text).encode(errors="surrogatepass"))

    return re.sub(r"[^\x00-\x7f]", "x", text) if fits(len) and not fits(in_bytes) else text


def whole_numbers(value):
    """JSON Schema takes 1.0 for an integer; the broker, as most parsers with types, does not."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [whole_numbers(item) for item in value]
    if isinstance(value, dict):
        return {name: whole_numbers(item) for name, item in value.items()}
    return value
