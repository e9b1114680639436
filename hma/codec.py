"""Values of `hma.model` to JSON-able data and back, driven by their type hints.

Rules of this file:
- A dataclass and a NamedTuple become an object by field name, so that versions n-1 and n read each other: a field that is not
  known is left out, a missing field takes its default, a missing field without one is an error.
- A mapping with text keys becomes an object, any other mapping a list of [key, value].
- `encode` trusts its argument (mypy has seen it); `decode` trusts nothing and says where and what is wrong.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache, partial
from operator import attrgetter
from typing import Any, TypeVar, cast

T = TypeVar("T")
Json = Any
"""What `json.dumps` takes: the one place where a value has no better name."""

_Encoder = Callable[[Any], Json]
_Decoder = Callable[[Json], Any]
_ATOMS = (str, int, float, bool, type(None))
_MISSING: Any = dataclasses.MISSING


class CodecError(ValueError):
    """Data that is no value of the wanted type; the text names the place and the problem: `faults[2].state: …`."""

    def __init__(self, problem: str, path: str = "") -> None:
        super().__init__(f"{path.lstrip('.')}: {problem}" if path else problem)
        self.problem = problem
        self.path = path

    def inside(self, place: str) -> CodecError:
        """Return this error as seen from one level further out."""
        return CodecError(self.problem, place + self.path)


def encode(value: Any, type_: Any = None) -> Json:
    """Return `value` as JSON-able data; `type_` where the value alone does not tell it (a mapping without text keys)."""
    wanted: Any = type(value) if type_ is None else type_
    return _encoder(wanted)(value)


def decode(type_: type[T], data: Json) -> T:
    """Return the value of `type_` that `data` stands for; raise `CodecError` if it stands for none."""
    wanted: Any = type_
    return cast(T, _decoder(wanted)(data))


@cache
def _hints(cls: Any) -> tuple[tuple[str, Any, Any], ...]:
    """Return name, type and default (`_MISSING` if none; a callable is a factory) of each field of `cls`."""
    hints = typing.get_type_hints(cls)
    if dataclasses.is_dataclass(cls):
        fields = dataclasses.fields(cls)
        return tuple((f.name, hints[f.name], _default(f)) for f in fields)
    names, defaults = cls._fields, cls._field_defaults
    return tuple((n, hints[n], (lambda v=defaults[n]: v) if n in defaults else _MISSING) for n in names)


def _default(f: dataclasses.Field[Any]) -> Any:
    if f.default_factory is not _MISSING:
        return f.default_factory
    return _MISSING if f.default is _MISSING else lambda: f.default


def _is_record(type_: Any) -> bool:
    return isinstance(type_, type) and (dataclasses.is_dataclass(type_) or hasattr(type_, "_fields"))


def _is_union(origin: Any) -> bool:
    return origin is types.UnionType or origin is typing.Union


def _is_mapping(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Mapping)


# -- encode -----------------------------------------------------------------------------------------------------------


def _same(value: Any) -> Json:
    return value


@cache
def _encoder(type_: Any) -> _Encoder:
    origin: Any = typing.get_origin(type_) or type_
    args = typing.get_args(type_)
    if origin in _ATOMS or origin is None:
        return _same
    if _is_record(origin):
        return _record_encoder(origin)
    if isinstance(origin, type) and issubclass(origin, enum.Enum):
        return str
    if _is_union(origin):
        return _union_encoder(args)
    if origin is tuple:
        return _tuple_encoder(args)
    if _is_mapping(origin):
        return _mapping_encoder(args)
    raise TypeError(f"hma.codec cannot write {type_!r}")


def _record_encoder(cls: Any) -> _Encoder:
    names = tuple(name for name, _, _ in _hints(cls))
    many = len(names) > 1
    changed = tuple((name, enc) for name, hint, _ in _hints(cls) if (enc := _encoder(hint)) is not _same)
    values = attrgetter(*names)

    def record(value: Any) -> Json:
        got = values(value)
        data = dict(zip(names, got if many else (got,), strict=True))
        for name, enc in changed:
            data[name] = enc(data[name])
        return data

    return record


def _union_encoder(args: tuple[Any, ...]) -> _Encoder:
    if all(_encoder(arg) is _same for arg in args):
        return _same
    rest = [arg for arg in args if arg is not type(None)]
    if len(rest) == 1:
        enc = _encoder(rest[0])
        return lambda value: None if value is None else enc(value)
    return encode


def _tuple_encoder(args: tuple[Any, ...]) -> _Encoder:
    if not args:
        return lambda value: [encode(item) for item in value]
    if len(args) == 2 and args[1] is Ellipsis:
        enc = _encoder(args[0])
        return list if enc is _same else lambda value: [enc(item) for item in value]
    encs = tuple(_encoder(arg) for arg in args)
    if all(enc is _same for enc in encs):
        return list
    return lambda value: [enc(item) for enc, item in zip(encs, value, strict=True)]


def _mapping_encoder(args: tuple[Any, ...]) -> _Encoder:
    if not args:
        return _untyped_mapping
    key, value = (_encoder(arg) for arg in args)
    if args[0] is str:
        return lambda items: {k: value(v) for k, v in items.items()}
    return lambda items: [[key(k), value(v)] for k, v in items.items()]


def _untyped_mapping(items: Mapping[Any, Any]) -> Json:
    if all(type(k) is str for k in items):
        return {k: encode(v) for k, v in items.items()}
    return [[encode(k), encode(v)] for k, v in items.items()]


# -- decode -----------------------------------------------------------------------------------------------------------


@cache
def _decoder(type_: Any) -> _Decoder:
    origin: Any = typing.get_origin(type_) or type_
    args = typing.get_args(type_)
    if origin in _ATOMS:
        return partial(_atom, origin)
    if _is_record(origin):
        return _record_decoder(origin)
    if isinstance(origin, type) and issubclass(origin, enum.Enum):
        return partial(_member, origin)
    if _is_union(origin):
        return _union_decoder(args)
    if origin is tuple:
        return _tuple_decoder(args)
    if _is_mapping(origin):
        return _mapping_decoder(args)
    raise TypeError(f"hma.codec cannot read {type_!r}")


def _shown(data: Json) -> str:
    text = repr(data)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _atom(type_: type, data: Json) -> Any:
    if type(data) is type_:
        return data
    if type_ is float and type(data) is int:
        return float(data)
    raise CodecError(f"{_shown(data)} is not {_ATOM_NAMES[type_]}")


_ATOM_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}


def _member(cls: type[enum.Enum], data: Json) -> Any:
    try:
        return cls(data)
    except ValueError:
        raise CodecError(f"{_shown(data)} is not one of {', '.join(str(m) for m in cls)}") from None


def _record_decoder(cls: Any) -> _Decoder:
    fields = tuple((name, _decoder(hint), default) for name, hint, default in _hints(cls))

    def record(data: Json) -> Any:
        if type(data) is not dict:
            raise CodecError(f"{_shown(data)} is not an object ({cls.__name__})")
        values = {}
        name = ""
        try:
            for name, dec, default in fields:
                if name in data:
                    values[name] = dec(data[name])
                elif default is _MISSING:
                    break
            else:
                return cls(**values)
        except CodecError as err:
            raise err.inside(f".{name}") from None
        raise CodecError(f"missing ({cls.__name__})", f".{name}")

    return record


def _under(place: str, dec: _Decoder, data: Json) -> Any:
    try:
        return dec(data)
    except CodecError as err:
        raise err.inside(place) from None


def _union_decoder(args: tuple[Any, ...]) -> _Decoder:
    nullable = type(None) in args
    decs = tuple(_decoder(arg) for arg in args if arg is not type(None))

    def union(data: Json) -> Any:
        if data is None and nullable:
            return None
        for dec in decs[:-1]:
            try:
                return dec(data)
            except CodecError:
                continue
        return decs[-1](data)

    return union


def _listed(data: Json, wanted: str) -> list[Any]:
    if type(data) is list or type(data) is tuple:
        return cast(list[Any], data)
    raise CodecError(f"{_shown(data)} is not {wanted}")


def _tuple_decoder(args: tuple[Any, ...]) -> _Decoder:
    if len(args) == 2 and args[1] is Ellipsis:
        return _list_decoder(_decoder(args[0]))
    decs = tuple(_decoder(arg) for arg in args)

    def fixed(data: Json) -> Any:
        if len(_listed(data, f"a list of {len(decs)}")) != len(decs):
            raise CodecError(f"{_shown(data)} is not a list of {len(decs)}")
        return tuple(_under(f"[{i}]", dec, item) for i, (dec, item) in enumerate(zip(decs, data, strict=True)))

    return fixed


def _list_decoder(each: _Decoder) -> _Decoder:
    def listed(data: Json) -> Any:
        values = []
        items = _listed(data, "a list")
        try:
            for item in items:
                values.append(each(item))  # noqa: PERF401  (how many there are tells where it went wrong)
        except CodecError as err:
            raise err.inside(f"[{len(values)}]") from None
        return tuple(values)

    return listed


def _mapping_decoder(args: tuple[Any, ...]) -> _Decoder:
    key, value = (_decoder(arg) for arg in args)

    def named(data: Json) -> Any:
        if type(data) is not dict:
            raise CodecError(f"{_shown(data)} is not an object")
        return {_under(f"[{k}]", key, k): _under(f"[{k}]", value, v) for k, v in data.items()}

    def pairs(data: Json) -> Any:
        items = [_under(f"[{i}]", partial(_listed, wanted="a list of 2"), x) for i, x in enumerate(_listed(data, "a list"))]
        if any(len(item) != 2 for item in items):
            raise CodecError("a list of [key, value] has an item of another length")
        return {_under(f"[{i}]", key, k): _under(f"[{i}]", value, v) for i, (k, v) in enumerate(items)}

    return named if args[0] is str else pairs
