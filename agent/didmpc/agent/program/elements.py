"""MPyC's fields, groups and secure types that the local program has created, and their values' parts.

MPyC makes a class per field or group while a program runs. A value travels as the fingerprint of its class
and its parts (ints, and tuples or arrays of ints); a class is only ever looked up, never made. Each kind
checks the parts as strictly as it can: ints in range and reduced, points on their curve, forms reduced.
A point is checked to be on its curve, not in the subgroup of prime order: MPyC's own encoding of messages as
points leaves that subgroup.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from asyncio import Future
from collections.abc import Iterator
from typing import Any

from mpyc import finfields, fingroups, gfpx, secgroups, seclists, secpols, sectypes
from mpyc.numpy import np

FINGERPRINT = 16


class NotAnElement(Exception):
    """The parts that a peer sent make no value of that type."""


class NotReady(Exception):
    """A secure object whose share is not computed yet."""


def _ints(parts: object, count: int | None = None) -> tuple[int, ...]:
    if not isinstance(parts, tuple) or any(type(part) is not int for part in parts):
        raise NotAnElement("numbers are needed")
    if count is not None and len(parts) != count:
        raise NotAnElement(f"{count} numbers are needed, not {len(parts)}")
    return parts


def _in_field(field: Any, value: object) -> Any:
    if type(value) is not int or not 0 <= value < field.order:
        raise NotAnElement("a number outside of the field")
    return field(value)


class Kind(ABC):
    """How values below one of MPyC's base classes are described, taken apart and put together."""

    base: type
    whole = False
    """Whether `base` itself has values that travel: MPyC makes no class of it for each field or group."""

    @abstractmethod
    def describe(self, cls: Any) -> tuple[Any, ...]:
        """What tells `cls` from others of its base. AttributeError or TypeError if it is no finished type."""

    @abstractmethod
    def take_apart(self, value: Any) -> Any:
        """Parts that the codec can write."""

    @abstractmethod
    def put_together(self, cls: Any, parts: Any) -> Any:
        """The value of type `cls`. Raises NotAnElement."""


class _PrimeField(Kind):
    base = finfields.PrimeFieldElement

    def describe(self, cls: Any) -> tuple[Any, ...]:
        return (int(cls.modulus), int(cls.nth), int(cls.root))

    def take_apart(self, value: Any) -> int:
        return int(value.value)  # not int(value): that is signed in some fields

    def put_together(self, cls: Any, parts: Any) -> Any:
        return _in_field(cls, parts)


class _ExtensionField(_PrimeField):
    base = finfields.ExtensionFieldElement

    def describe(self, cls: Any) -> tuple[Any, ...]:
        return (int(cls.characteristic), int(cls.modulus))


class _Polynomial(Kind):
    base = gfpx.Polynomial

    def describe(self, cls: Any) -> tuple[Any, ...]:
        return (int(cls.p),)

    def take_apart(self, value: Any) -> int:
        return int(value)

    def put_together(self, cls: Any, parts: Any) -> Any:
        if type(parts) is not int or parts < 0:
            raise NotAnElement("a number is needed")
        return cls(parts)


class _FieldArray(Kind):
    base = finfields.FiniteFieldArray

    def describe(self, cls: Any) -> tuple[Any, ...]:
        return (fingerprint(cls.field),)

    def take_apart(self, value: Any) -> Any:
        array = value.value
        plain = np.empty(array.size, dtype=object)
        for position, each in enumerate(array.flat):
            plain[position] = int(each)
        return plain.reshape(array.shape)

    def put_together(self, cls: Any, parts: Any) -> Any:
        if not isinstance(parts, np.ndarray) or parts.dtype != object:
            raise NotAnElement("an array is needed")
        field = cls.field
        if any(not 0 <= each < field.order for each in parts.flat):
            raise NotAnElement("a number outside of the field")
        if not issubclass(field, finfields.PrimeFieldElement):
            polynomials = np.empty(parts.size, dtype=object)
            for position, each in enumerate(parts.flat):
                polynomials[position] = field(each).value
            parts = polynomials.reshape(parts.shape)
        return cls(parts, check=False)


class _Permutation(Kind):
    base = fingroups.SymmetricGroupElement

    def describe(self, cls: Any) -> tuple[Any, ...]:
        return (int(cls.degree),)

    def take_apart(self, value: Any) -> Any:
        return tuple(value.value)

    def put_together(self, cls: Any, parts: Any) -> Any:
        if sorted(_ints(parts, cls.degree)) != list(range(cls.degree)):
            raise NotAnElement("no permutation")
        return cls(parts, check=False)


class _Residue(Kind):
    base = fingroups.QuadraticResidue

    def describe(self, cls: Any) -> tuple[Any, ...]:
        return (fingerprint(cls.field), int(cls.order), int(cls.generator.value.value))

    def take_apart(self, value: Any) -> int:
        return int(value.value.value)

    def put_together(self, cls: Any, parts: Any) -> Any:
        return _checked(cls, _in_field(cls.field, parts))


class _SchnorrElement(_Residue):
    base = fingroups.SchnorrGroupElement


class _CurvePoint(Kind):
    base = fingroups.EllipticCurvePoint

    def describe(self, cls: Any) -> tuple[Any, ...]:
        return (fingerprint(cls.field), cls.curvename, cls.__mro__[1].__name__)

    def take_apart(self, value: Any) -> Any:
        return tuple(int(each.value) for each in value.value)

    def put_together(self, cls: Any, parts: Any) -> Any:
        if parts == () and cls._identity == ():
            return cls.identity  # a Weierstrass curve in affine coordinates
        numbers = _ints(parts, len(cls._identity) or 2)
        point = tuple(_in_field(cls.field, each) for each in numbers)
        if point[2:] and point[2] == 0:
            return self._at_infinity(cls, point)
        return _checked(cls, point)

    def _at_infinity(self, cls: Any, point: Any) -> Any:
        """The equation of the curve in homogeneous coordinates, for z = 0; MPyC does not check it then."""
        x, y = point[:2]
        if issubclass(cls, fingroups.WeierstrassProjective):
            there = x == 0 and y != 0
        elif issubclass(cls, fingroups.WeierstrassJacobian):
            there = y != 0 and (x == 0 or y**2 == x**3)  # MPyC's identity is (0, 1, 0) here too
        else:
            there = False
        if not there:
            raise NotAnElement("not on the curve")
        return cls(point, check=False)


class _Divisor(Kind):
    base = fingroups.HyperellipticCurveDivisor

    def describe(self, cls: Any) -> tuple[Any, ...]:
        return (fingerprint(cls.field), cls.curvename, int(cls.genus), int(cls.f), cls.__mro__[1].__name__)

    def take_apart(self, value: Any) -> Any:
        return tuple(int(each) for each in value.value)

    def put_together(self, cls: Any, parts: Any) -> Any:
        u, v = _ints(parts, 2)
        bound = cls.field.order ** (cls.genus + 1)
        if not (0 < u < bound and 0 <= v < bound):
            raise NotAnElement("a polynomial of too high degree")
        polynomial = gfpx.GFpX(cls.field.modulus)
        first, second = polynomial(u), polynomial(v)
        if first[first.degree()] != 1 or second.degree() >= max(first.degree(), 1):
            raise NotAnElement("not reduced")
        return _checked(cls, (first, second))


class _ExtendedDivisor(_Divisor):
    base = fingroups.HCDivisorCL

    def take_apart(self, value: Any) -> Any:
        return tuple(int(each.value) for each in value.value)

    def put_together(self, cls: Any, parts: Any) -> Any:
        # MPyC's own check of these coordinates does not run: it uses a value that is not there yet
        point = tuple(_in_field(cls.field, each) for each in _ints(parts, 6))
        u1, u0, v1, v0, square, product = point
        if u1**2 != square or u1 * u0 != product:
            raise NotAnElement("incorrect extended coordinates")
        polynomial = gfpx.GFpX(cls.field.modulus)
        u = polynomial([u0.value, u1.value, 1])
        v = polynomial([v0.value, v1.value])
        if any(parts) and (cls.f - v**2) % u:  # all zero is the identity
            raise NotAnElement("not in the Jacobian")
        return cls(point, check=False)


class _Form(Kind):
    base = fingroups.ClassGroupForm

    def describe(self, cls: Any) -> tuple[Any, ...]:
        return (int(cls.discriminant),)

    def take_apart(self, value: Any) -> Any:
        return tuple(map(int, value.value))

    def put_together(self, cls: Any, parts: Any) -> Any:
        a, b, c = _ints(parts, 3)
        # -|a| < b <= a <= c, and b >= 0 when a = c: the one reduced form of its class
        if not (-a < b <= a <= c and (a != c or b >= 0)) or math.gcd(a, b, c) != 1:
            raise NotAnElement("not a reduced, primitive form")
        if b * b - 4 * a * c != cls.discriminant:
            raise NotAnElement("of another discriminant")
        return cls(parts, check=False)


class _SecureNumber(Kind):
    """A secure number is one party's share: who sends it, gives that share away."""

    base = sectypes.SecureNumber

    def describe(self, cls: Any) -> tuple[Any, ...]:
        return (cls.__mro__[1].__name__, cls.__name__, fingerprint(cls.field))

    def take_apart(self, value: Any) -> Any:
        return (self._share(value), getattr(value, "integral", None))

    def put_together(self, cls: Any, parts: Any) -> Any:
        if not isinstance(parts, tuple) or len(parts) != 2 or type(parts[0]) is not self._share_type(cls):
            raise NotAnElement("no share of that type")
        share, integral = parts
        if hasattr(cls, "integral"):
            if integral is not None and type(integral) is not bool:
                raise NotAnElement("neither whole nor fractional")
            return cls(share, integral=integral)
        if integral is not None:
            raise NotAnElement("no share of that type")
        return cls(share)

    def _share_type(self, cls: Any) -> Any:
        return cls.field

    def _share(self, value: Any) -> Any:
        share = value.share
        if isinstance(share, Future):
            if not share.done():
                raise NotReady(
                    f"A {type(value).__name__} cannot be sent before its share is computed: "
                    "await mpc.gather() first."
                )
            share = share.result()
        return share


class _SecureArray(_SecureNumber):
    base = sectypes.SecureArray

    def describe(self, cls: Any) -> tuple[Any, ...]:
        return (cls.__mro__[1].__name__, cls.__name__, fingerprint(cls.sectype.field))

    def _share_type(self, cls: Any) -> Any:
        return cls.sectype.field.array


class _SecureFloat(Kind):
    base = sectypes.SecureFloat

    def describe(self, cls: Any) -> tuple[Any, ...]:
        return (cls.__name__, fingerprint(cls.significand_type), fingerprint(cls.exponent_type))

    def take_apart(self, value: Any) -> Any:
        return value.share

    def put_together(self, cls: Any, parts: Any) -> Any:
        return cls(_all_of((cls.significand_type, cls.exponent_type), parts))


class _SecurePolynomial(Kind):
    base = secpols.secpoly
    whole = True

    def describe(self, cls: Any) -> tuple[Any, ...]:
        return _only(cls, self.base)

    def take_apart(self, value: Any) -> Any:
        return value.share

    def put_together(self, cls: Any, parts: Any) -> Any:
        if not isinstance(parts, sectypes.SecureFiniteFieldArray) or parts.ndim != 1:
            raise NotAnElement("a row of coefficients is needed")
        return cls(parts)


class _SecureElement(Kind):
    """A secure element of a group: one secure number, or a tuple of as many as its coordinates.

    Nothing about a share tells whether what is shared lies in the group.
    """

    base = secgroups.SecureFiniteGroup

    def describe(self, cls: Any) -> tuple[Any, ...]:
        return (cls.__mro__[1].__name__, fingerprint(cls.group), fingerprint(cls.sectype))

    def take_apart(self, value: Any) -> Any:
        return value.share

    def put_together(self, cls: Any, parts: Any) -> Any:
        like = cls.identity.share
        if not isinstance(like, tuple):
            return cls(*_all_of((type(like),), (parts,)))
        shares = _all_of(tuple(map(type, like)), parts)
        if any(isinstance(each, secpols.secpoly) and each.sectype is not like[0].sectype for each in shares):
            raise NotAnElement("a polynomial over another field")
        return cls(shares)


class _SecureList(Kind):
    base = seclists.seclist
    whole = True

    def describe(self, cls: Any) -> tuple[Any, ...]:
        return _only(cls, self.base)

    def take_apart(self, value: Any) -> Any:
        return (fingerprint(value.sectype), *list.__iter__(value))

    def put_together(self, cls: Any, parts: Any) -> Any:
        if not isinstance(parts, tuple) or not parts or type(parts[0]) is not bytes:
            raise NotAnElement("the type of its items is needed")
        found = find(parts[0])
        if found is None or not issubclass(found[1], sectypes.SecureObject):
            raise NotAnElement("items of a type that this program has not created")
        return cls(_all_of((found[1],) * (len(parts) - 1), parts[1:]), found[1])


def _only(cls: type, base: type) -> tuple[()]:
    if cls is not base:
        raise TypeError(f"{cls.__name__} is a class of the program's own")
    return ()


def _all_of(types: tuple[type, ...], parts: object) -> tuple[Any, ...]:
    if not isinstance(parts, tuple) or tuple(map(type, parts)) != types:
        raise NotAnElement("shares of other types")
    return parts


def _checked(cls: Any, value: Any) -> Any:
    """Through MPyC's own check of membership."""
    try:
        return cls(value, check=True)
    except (ValueError, TypeError, ZeroDivisionError, ArithmeticError, IndexError) as error:
        raise NotAnElement(str(error)) from None


# the more special base first: an extended divisor is a divisor
_KINDS: tuple[Kind, ...] = (
    _PrimeField(),
    _ExtensionField(),
    _Polynomial(),
    _FieldArray(),
    _Permutation(),
    _Residue(),
    _SchnorrElement(),
    _CurvePoint(),
    _ExtendedDivisor(),
    _Divisor(),
    _Form(),
    _SecureFloat(),
    _SecureNumber(),
    _SecureArray(),
    _SecurePolynomial(),
    _SecureElement(),
    _SecureList(),
)
_fingerprints: dict[type, bytes] = {}
_found: dict[bytes, tuple[Kind, type]] = {}


def _kind(cls: type) -> Kind | None:
    return next((kind for kind in _KINDS if issubclass(cls, kind.base)), None)


def kind_of(value: object) -> Kind | None:
    """How to take `value` apart; None if it is of no type that travels."""
    cls = type(value)
    return _kind(cls) if cls in _fingerprints or _is_finished(cls) else None


def fingerprint(cls: type) -> bytes:
    """What stands for `cls`: equal at all parties that created the same type."""
    known = _fingerprints.get(cls)
    if known is None:
        kind = _kind(cls)
        if kind is None:
            raise TypeError(cls.__name__)
        text = repr((kind.base.__name__, *kind.describe(cls)))
        known = _fingerprints[cls] = hashlib.sha256(text.encode()).digest()[:FINGERPRINT]
    return known


def find(wanted: bytes) -> tuple[Kind, type] | None:
    """The local type with this fingerprint, among those that exist now."""
    if wanted not in _found:
        for kind in _KINDS:
            for cls in (kind.base, *_subclasses(kind.base)) if kind.whole else _subclasses(kind.base):
                if _kind(cls) is kind and _is_finished(cls):
                    _found.setdefault(fingerprint(cls), (kind, cls))
    return _found.get(wanted)


def _is_finished(cls: type) -> bool:
    """Whether `cls` is a type that MPyC has made, not one of its bases or a class of the program's own."""
    try:
        fingerprint(cls)
    except (AttributeError, TypeError):
        return False
    return True


def _subclasses(base: type) -> Iterator[type]:
    cls: type
    for cls in base.__subclasses__():
        yield cls
        yield from _subclasses(cls)
