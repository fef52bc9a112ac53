"""The in-toto Statement v1 of a release, and its DSSE envelope when it is signed.

Statement: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md; envelope:
https://github.com/secure-systems-lab/dsse. ``docs/export.md`` documents the predicate.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:heartwood:predicate:release:v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
PLAIN, SIGNED = "statement.json", "statement.dsse.json"
_INSTALL = "install the libraries of exports: pip install 'heartwood[export]'"
_AGAIN = "take the release from its publisher again"


@dataclass(frozen=True)
class Statement:
    """What a release says of itself: the sha256 of its subjects by path, and the predicate."""

    subjects: dict[str, str]
    predicate: dict[str, Any]

    def to_bytes(self) -> bytes:
        """As JSON whose bytes depend on the value alone."""
        content = {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": n, "digest": {"sha256": sha}} for n, sha in sorted(self.subjects.items())],
            "predicateType": PREDICATE_TYPE,
            "predicate": self.predicate,
        }
        return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def parse(data: bytes, where: str) -> Statement:
    """A statement from its bytes, by the library of the in-toto project.

    Raises:
        HeartwoodError: no statement, or one about something else than a release.
    """
    try:
        from google.protobuf import json_format
        from in_toto_attestation.v1 import statement_pb2
        from in_toto_attestation.v1.statement import Statement as Checked
    except ImportError as error:
        raise HeartwoodError(f"{error.name} is not installed", hint=_INSTALL) from None
    try:
        content = json.loads(data)
        read = json_format.Parse(data, statement_pb2.Statement())
        Checked.copy_from_pb(read).validate()
        subjects = {str(s["name"]): str(s["digest"]["sha256"]) for s in content["subject"]}
        kind, predicate = str(content["predicateType"]), content["predicate"]
    except (ValueError, KeyError, TypeError, json_format.ParseError) as error:
        raise HeartwoodError(f"{where}: not an in-toto statement ({error})", hint=_AGAIN) from None
    if kind != PREDICATE_TYPE:
        raise HeartwoodError(
            f"{where}: its predicate is {kind!r}; known: {PREDICATE_TYPE!r}",
            hint="install the version of heartwood that wrote it",
        )
    return Statement(subjects, predicate)


def find(folder: Path) -> Path | None:
    """The file that holds the statement of a release folder; None if the folder is none.

    Raises:
        HeartwoodError: there are two, and nobody could say which one is meant.
    """
    found = [folder / name for name in (SIGNED, PLAIN) if (folder / name).is_file()]
    if len(found) > 1:
        raise HeartwoodError(f"{folder}: both {SIGNED} and {PLAIN} are there", hint=_AGAIN)
    return found[0] if found else None


def read(path: Path, key: Path | None) -> tuple[Statement, str]:
    """The statement of a release, and what is wrong with its signature, empty if nothing is.

    Args:
        key: the publisher's public key (PEM). Without it a signature is not checked.

    Raises:
        HeartwoodError: the file is no statement, or the key no public key.
    """
    data = path.read_bytes()
    if path.name == PLAIN:
        return parse(data, path.name), f"it is not signed, and {key} asks for a signature" if key else ""
    envelope = _envelope(data, path.name)
    return parse(envelope.payload, path.name), _check(envelope, key) if key else ""


def _envelope(data: bytes, where: str) -> Any:
    dsse, _ = _library()
    try:
        envelope = dsse.Envelope.from_dict(json.loads(data))
    except Exception as error:  # The library raises whatever its parts raise.
        raise HeartwoodError(f"{where}: not a DSSE envelope ({error})", hint=_AGAIN) from None
    if envelope.payload_type != PAYLOAD_TYPE:
        raise HeartwoodError(f"{where}: holds {envelope.payload_type!r}, not {PAYLOAD_TYPE!r}", hint=_AGAIN)
    return envelope


def _check(envelope: Any, key: Path) -> str:
    from securesystemslib.exceptions import VerificationError

    _, signer = _library()
    try:
        public = signer.SSlibKey.from_crypto(_public(key))
    except ValueError as error:
        raise HeartwoodError(
            f"{key}: a kind of key that cannot be used ({error})", hint="use Ed25519 or ECDSA"
        ) from None
    try:
        envelope.verify([public], 1)
    except VerificationError:
        signers = ", ".join(sorted(k[:12] for k in envelope.signatures)) or "nobody"
        return f"it is not signed by {key} (key {public.keyid[:12]}); signed by {signers}"
    return ""


def sign(statement: bytes, key: Path) -> bytes:
    """The DSSE envelope of a statement, as JSON.

    Args:
        key: a private key (PEM, not encrypted): Ed25519, ECDSA or RSA.

    Raises:
        HeartwoodError: the file is no such key.
    """
    dsse, signer = _library()
    try:
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        private = load_pem_private_key(_bytes(key), password=None)
        used = signer.CryptoSigner(private)
    except (ValueError, TypeError) as error:
        raise HeartwoodError(
            f"{key}: not a private key that can sign ({error})",
            hint="make one: openssl genpkey -algorithm ed25519 -out key.pem",
        ) from None
    envelope = dsse.Envelope(statement, PAYLOAD_TYPE, {})
    envelope.sign(used)
    return (json.dumps(envelope.to_dict(), indent=2, sort_keys=True) + "\n").encode()


def _public(key: Path) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        return load_pem_public_key(_bytes(key))
    except ValueError as error:
        raise HeartwoodError(
            f"{key}: not a public key in PEM ({error})", hint="openssl pkey -in key.pem -pubout -out pub.pem"
        ) from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise HeartwoodError(f"{path}: {error.strerror}", hint="name the file of a key in PEM") from None


def _library() -> tuple[Any, Any]:
    try:
        from securesystemslib import dsse, signer
    except ImportError as error:
        raise HeartwoodError(f"{error.name} is not installed", hint=_INSTALL) from None
    return dsse, signer
