"""JSON Schemas of what comes and goes: from the readers of requests and the types of replies.

What these schemas can't say of requests: names of fields count in any case, and unknown fields are
ignored.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from msgspec import NODEFAULT, Struct, UnsetType
from msgspec.structs import FieldInfo, fields

from llamaherd.api import gojson
from llamaherd.options import OPTIONS, OptionSpec

Schema = Mapping[str, Any]

_PLAIN: Final[Mapping[gojson.Reader, Schema]] = {
    gojson.string: {"type": "string"},
    gojson.boolean: {"type": "boolean"},
    gojson.integer: {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    gojson.number: {"type": "number"},
    gojson.mapping: {"type": "object"},
    gojson.anything: {},
    gojson.image: {"type": "string", "contentEncoding": "base64"},
    gojson.duration: {
        "anyOf": [
            {
                "type": "string",
                "pattern": r"^[-+]?(0|([0-9]{1,6}(\.[0-9]{0,9})?(ns|us|µs|ms|s|m|h)){1,6})$",
            },
            {"type": "number"},
        ],
        "description": "A duration as Go writes it, or a number of seconds; negative is for ever.",
    },
}

_KINDS: Final[Mapping[str, Schema]] = {
    "int": {"type": "integer"},
    "float32": {"type": "number"},
    "bool": {"type": "boolean"},
}


def schema_of(reader: gojson.Reader) -> Schema:
    """Raises ``TypeError`` for a function that has no schema: see ``gojson.described``."""
    match reader:
        case gojson.ObjectReader(fields):
            properties = {name: nullable(schema_of(field)) for name, field in fields.items()}
            return {"type": "object", "properties": properties}
        case gojson.ListReader(item):
            return {"type": "array", "items": schema_of(item)}
        case gojson.MapReader(item):
            return {"type": "object", "additionalProperties": schema_of(item)}
        case gojson.DescribedReader(_, schema):
            return schema if isinstance(schema, Mapping) else schema_of(schema)
    if reader not in _PLAIN:
        raise TypeError(f"{reader} has no schema, gojson.described gives it one")
    return _PLAIN[reader]


def nullable(schema: Schema) -> Schema:
    """``null`` leaves a field as if it weren't there."""
    if not schema:
        return schema
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    if "type" not in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return {**schema, "type": [*types, "null"]}


def options_schema() -> Schema:
    """The model options, by the table that they are checked against."""
    properties = {name: nullable(_option(spec)) for name, spec in OPTIONS.items()}
    return {"type": "object", "properties": properties}


def _option(spec: OptionSpec) -> Schema:
    if spec.kind == "[]string":
        strings = {"type": "array", "items": {"type": "string"}, "maxItems": spec.high}
        return {"anyOf": [{"type": "string"}, strings], "default": list(spec.default)}
    schema = dict(_KINDS[spec.kind])
    for key, bound in (("minimum", spec.low), ("maximum", spec.high)):
        if bound is not None:
            schema[key] = int(bound) if spec.kind == "int" else bound
    if spec.default is not None:
        schema["default"] = spec.default
    return schema


_SCALARS: Final[Mapping[Any, Schema]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    bytes: {"type": "string", "contentEncoding": "base64"},
    NoneType: {"type": "null"},
    Any: {},
}


class Components:
    """The schemas of types of replies, in which each struct is a component of its own."""

    def __init__(self) -> None:
        self.schemas: dict[str, Schema] = {}
        self._names: dict[type[Struct], str] = {}

    def schema_of(self, kind: Any) -> Schema:
        """Raises ``TypeError`` for a type that no reply has had yet."""
        if kind in _SCALARS:
            return _SCALARS[kind]
        if isinstance(kind, type) and issubclass(kind, Struct):
            return {"$ref": f"#/components/schemas/{self._name(kind)}"}
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is Literal:
            return {"enum": list(arguments)}
        if origin in (Union, UnionType):
            found = [self.schema_of(each) for each in arguments if each is not UnsetType]
            return found[0] if len(found) == 1 else {"anyOf": found}
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return {"type": "object", "additionalProperties": self.schema_of(arguments[1])}
        if isinstance(origin, type) and issubclass(origin, Sequence):
            return {"type": "array", "items": self.schema_of(arguments[0])}
        raise TypeError(f"no schema for {kind}")

    def _name(self, kind: type[Struct]) -> str:
        if kind not in self._names:
            name = kind.__name__
            if name in self.schemas:
                name = f"{kind.__module__.rpartition('.')[2]}.{name}"
            self._names[kind] = name
            self.schemas[name] = {}
            self.schemas[name] = self._struct(kind)
        return self._names[kind]

    def _struct(self, kind: type[Struct]) -> Schema:
        found = fields(kind)
        required = [field.encode_name for field in found if _is_always_there(kind, field)]
        properties = {field.encode_name: self.schema_of(field.type) for field in found}
        config = kind.__struct_config__
        if config.tag_field is not None:
            properties = {config.tag_field: {"const": config.tag}, **properties}
            required = [config.tag_field, *required]
        return {
            "type": "object",
            **({"description": inspect.cleandoc(kind.__doc__)} if kind.__doc__ else {}),
            "properties": properties,
            **({"required": required} if required else {}),
        }


def _is_always_there(kind: type[Struct], field: FieldInfo) -> bool:
    has_default = field.default is not NODEFAULT or field.default_factory is not NODEFAULT
    if kind.__struct_config__.omit_defaults and has_default:
        return False
    return UnsetType not in get_args(field.type)
