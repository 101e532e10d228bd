"""What a schema cannot say of a request, said to schemathesis."""

import schemathesis

MOST_PARTS = 10_000


@schemathesis.hook
def before_call(context, case, kwargs):
    case.body = whole_numbers(case.body)
    body = case.body
    if isinstance(body, dict) and case.operation.path == "/v1/uploads":
        size, part_size = body.get("size"), body.get("part_size")
        # A file of more parts than there can be is refused.
        if type(size) is int and type(part_size) is int and size > part_size * MOST_PARTS > 0:
            del body["part_size"]


def whole_numbers(value):
    """JSON Schema takes 1.0 for an integer; the broker, as most parsers with types, does not."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [whole_numbers(item) for item in value]
    if isinstance(value, dict):
        return {name: whole_numbers(item) for name, item in value.items()}
    return value
