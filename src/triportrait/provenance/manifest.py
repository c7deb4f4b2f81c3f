"""Content Credentials: a signed C2PA manifest in the finished file, and reading it back.

The manifest says that a model made the video (``c2pa.created``, ``trainedAlgorithmicMedia``), with which software, the
SHA-256 of what went in, who made it and how the person shown agreed, where the maker says so. It names the watermark as
its soft binding: who finds the mark in a copy without manifest can look for the statement with the same value. It is
signed with this installation's key (:mod:`.signing`): a file signed here reads as *trusted* here and as *valid*
elsewhere. There is no time stamp, because a time-stamping authority cannot be asked without a network.

Containers that C2PA does not know (WebM, Matroska), and installations without c2pa-python, get the same statement as
``<file>.provenance.json`` beside the file, with the file's SHA-256 but without a signature; it reads as *unsigned*.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

from triportrait.errors import MediaError, MissingPart, OutputError
from triportrait.files import atomic_file
from triportrait.provenance.maker import NOBODY, Account, shown_number
from triportrait.provenance.signing import SigningIdentity, signing_folder, signing_identity

logger = logging.getLogger(__name__)

State = Literal["trusted", "valid", "invalid", "unsigned", "none"]

GENERATED_BY_MODEL = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
#: Our own assertion, with what the standard ones have no room for.
STATEMENT_LABEL = "org.triportrait.generation"
SIDECAR_SUFFIX = ".provenance.json"
#: Name of :mod:`.watermark` in ``c2pa.soft-binding``; it is not in the list of algorithms that C2PA keeps.
SOFT_BINDING_ALGORITHM = "org.triportrait.watermark.2"

#: Containers that c2pa-python writes manifests into and that we may produce.
_MEDIA_TYPES = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".gif": "image/gif",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".wav": "audio/wav",
}
_ONE_PIXEL_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="


@dataclass(frozen=True, slots=True)
class ManifestInfo:
    """What a file's manifest says and whether to believe it.

    Args:
        state: ``trusted`` (unchanged, signed by this installation or one it trusts), ``valid`` (unchanged, signer
            unknown here), ``invalid`` (changed since, or badly signed), ``unsigned`` (a note beside the file that fits
            it), ``none``.
        title: as given when signing.
        software: the program that made the file, with its version.
        is_generated: the manifest says that a model made the content.
        ingredients: name -> SHA-256 of what went in, hexadecimal.
        signer: the organisation named in the certificate.
        watermark_payload: payload of the invisible watermark, or None when not stated.
        maker: name or id of who made the file, as stated.
        consent: how the person shown agreed, as the maker states it.
        when: ISO 8601 time of creation, as claimed.
        problems: codes of the failed checks, such as ``assertion.bmffHash.mismatch``.
    """

    state: State
    title: str = ""
    software: str = ""
    is_generated: bool = False
    ingredients: dict[str, str] = field(default_factory=dict)
    signer: str = ""
    watermark_payload: int | None = None
    maker: str = ""
    consent: str = ""
    when: str = ""
    problems: tuple[str, ...] = ()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal; MediaError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MediaError(f"{path} cannot be read ({error.strerror}); check the path.") from error


def sign_video(
    path: Path | str,
    ingredients: Mapping[str, str | Path],
    title: str,
    software: str = "TriPortrait",
    key_folder: Path | str | None = None,
    *,
    account: Account = NOBODY,
    watermark_payload: int | None = None,
    when: datetime | None = None,
    draft: Path | None = None,
) -> Path:
    """Put a signed statement of origin into the finished file at ``path``, atomically.

    Args:
        path: a finished mp4, mov, gif, png, jpg, webp or wav file; any other kind gets the JSON note beside it.
        ingredients: name -> SHA-256 (hexadecimal), or name -> path of the file, which is then hashed here and whose
            own manifest, if it has one, is carried along.
        title: shown by manifest viewers.
        software: name and version, separated by the last blank.
        key_folder: where key and certificates are; None for ``user_folder() / "signing"``.
        account: who answers for the file, to be stated.
        watermark_payload: payload of the invisible watermark, to be stated.
        when: time of creation; None for now.
        draft: the finished bytes that will be called ``path`` later, for outputs that appear signed or not at all.

    Returns:
        The file that holds the statement: ``path`` itself, or the note beside it.

    Raises:
        MediaError: ``path`` or an ingredient cannot be read, or is not what its name says.
        OutputError: the result cannot be written, or the key and certificates do not fit each other.
    """
    path = Path(path)
    draft = path if draft is None else draft
    if not draft.is_file():
        raise MediaError(f"{draft} does not exist; only a finished file can be signed.")
    when = when or datetime.now(UTC)
    files = {name: value for name, value in ingredients.items() if isinstance(value, Path)}
    hashes = {name: file_sha256(value) if isinstance(value, Path) else value for name, value in ingredients.items()}
    statement: dict[str, Any] = {
        "title": title,
        "software": software,
        "digital_source_type": GENERATED_BY_MODEL,
        "ingredients": hashes,
        "when": when.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        **_account_entries(account),
    }
    if watermark_payload is not None:
        statement["watermark_payload"] = watermark_payload
    media_type = _MEDIA_TYPES.get(path.suffix.lower())
    if media_type is None or not _has_c2pa():
        reason = "c2pa-python is not installed" if media_type else f"C2PA does not know {path.suffix or 'such'} files"
        logger.warning("%s: %s, so its origin is noted unsigned beside it.", path.name, reason)
        return _write_sidecar(path, statement, draft)
    _sign_embedded(path, draft, media_type, statement, files, signing_identity(key_folder))
    return path


class VideoSigner:
    """The statement of a video that is yet to be made.

    Whatever can keep it from being signed is tried at once: the library, keys and certificates, the clock. What stands in
    the way is one warning, and the statement goes unsigned beside the file: a finished video is never lost over it.

    Args:
        path: what the video will be called.
        ingredients: name -> file that goes in; hashed at once.
        title, software, key_folder, account: see :func:`sign_video`.

    Raises:
        MediaError: an ingredient cannot be read.
    """

    def __init__(
        self,
        path: Path,
        ingredients: Mapping[str, Path],
        title: str,
        software: str,
        key_folder: Path | str | None = None,
        *,
        account: Account = NOBODY,
    ) -> None:
        self._path, self._files = path, dict(ingredients)
        self._statement: dict[str, Any] = {
            # A name may hold bytes that are no text.
            "title": title.encode("utf-8", "replace").decode(),
            "software": software,
            "digital_source_type": GENERATED_BY_MODEL,
            "ingredients": {name: file_sha256(file) for name, file in self._files.items()},
            **_account_entries(account),
        }
        self._identity: SigningIdentity | None = None
        self._is_embedded = False
        self._late = ""
        try:
            self._identity = _tried_identity(path, key_folder)
        except Exception as error:  # a native library may let anything out
            logger.warning("%s will not be signed, its origin will be noted beside it: %s", path.name, str(error) or type(error).__name__)

    def sign(self, draft: Path, watermark_payload: int | None = None) -> None:
        """Put the statement into the finished bytes, where that can be; never raises for want of a signature."""
        self._statement["when"] = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        if watermark_payload is not None:
            self._statement["watermark_payload"] = watermark_payload
        if self._identity is None:
            return
        files = {name: file for name, file in self._files.items() if file.is_file()}
        try:
            _sign_embedded(self._path, draft, _MEDIA_TYPES[self._path.suffix.lower()], self._statement, files, self._identity)
            self._is_embedded = True
        except Exception as error:
            self._late = str(error) or type(error).__name__

    def note_beside(self) -> None:
        """Once the file has its name: the unsigned note beside one that could not be signed, and what went wrong late."""
        if self._is_embedded:
            return
        try:
            _write_sidecar(self._path, self._statement, self._path)
            if self._late:
                logger.warning("%s is not signed, its origin is noted beside it: %s", self._path.name, self._late)
        except Exception as error:
            logger.warning("%s is not signed and carries no statement of its origin: %s", self._path.name, self._late or error)


def _account_entries(account: Account) -> dict[str, str]:
    """What a statement says about the people; nothing of what was not given."""
    entries = {"maker": account.maker, "maker_number": shown_number(account.number) if account.maker else "", "consent": account.consent}
    return {name: text for name, text in entries.items() if text}


def _soft_bindings(statement: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The watermark as C2PA names it: over the whole content, with the payload as its value."""
    if (payload := statement.get("watermark_payload")) is None:
        return []
    blocks = [{"scope": {}, "value": f"{payload:08x}"}]
    return [{"label": "c2pa.soft-binding", "data": {"alg": SOFT_BINDING_ALGORITHM, "blocks": blocks}}]


def _tried_identity(path: Path, key_folder: Path | str | None) -> SigningIdentity:
    """This installation's key, after it has signed a picture of one pixel.

    Raises:
        OutputError, MissingPart, and whatever the native library lets out: it cannot sign.
    """
    if path.suffix.lower() not in _MEDIA_TYPES:
        raise OutputError(f"C2PA does not know {path.suffix or 'such'} files.")
    if not _has_c2pa():
        raise MissingPart("c2pa-python is not installed or does not load; run `pip install --force-reinstall c2pa-python`.")
    from cryptography import x509

    identity, now = signing_identity(key_folder), datetime.now(UTC)
    for certificate in x509.load_pem_x509_certificates(identity.chain):
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise OutputError(
                f"the clock says {now:%Y-%m-%d}, and the certificate holds from {certificate.not_valid_before_utc:%Y-%m-%d} to "
                f"{certificate.not_valid_after_utc:%Y-%m-%d}; set the clock, or delete {signing_folder(key_folder)} to have a new one made."
            )
    statement = {"title": "trial", "software": "TriPortrait", "ingredients": {}, "when": "2000-01-01T00:00:00Z", "watermark_payload": 0}
    manifest, _ = _manifest_of(statement, "image/png", {})
    _sign_stream(manifest, [], identity, "image/png", io.BytesIO(base64.b64decode(_ONE_PIXEL_PNG)), io.BytesIO())
    return identity


def read_manifest(path: Path | str, key_folder: Path | str | None = None) -> ManifestInfo:
    """What the manifest in (or the note beside) ``path`` says; never raises for a file that merely has none.

    Raises:
        MediaError: no such file.
        MissingPart: the file seems to have a manifest and c2pa-python is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise MediaError(f"{path} does not exist; check the path.")
    media_type = _MEDIA_TYPES.get(path.suffix.lower())
    if media_type is None:
        return _read_sidecar(path)
    if not _has_c2pa():
        if _mentions_c2pa(path):
            raise MissingPart(f"{path.name} carries a C2PA manifest; reading it needs `pip install c2pa-python`.")
        return _read_sidecar(path)
    import c2pa

    root_file = signing_folder(key_folder) / "root.pem"
    try:
        roots = root_file.read_text()
    except (OSError, ValueError):  # nobody has signed here, or nobody may look
        roots = ""
    try:
        with _context(roots) as context, path.open("rb") as file:
            with c2pa.Reader(media_type, file, context=context) as reader:
                return _from_report(json.loads(reader.json()), reader.get_validation_state() or "Invalid")
    except c2pa.C2paError.ManifestNotFound:
        return _read_sidecar(path)
    except c2pa.C2paError as error:
        # A manifest too damaged to be parsed is a changed file; a file without any is none of C2PA's business.
        if _mentions_c2pa(path):
            return ManifestInfo("invalid", problems=(str(error),))
        return _read_sidecar(path)


def _has_c2pa() -> bool:
    try:
        import c2pa  # noqa: F401
        import cryptography  # noqa: F401
    except Exception:  # the wheel's native library does not load on this system
        return False
    return True


def _context(roots: str) -> Any:
    """A C2PA context that trusts ``roots``, stays off the network and adds no thumbnails."""
    from c2pa import Context

    settings: dict[str, Any] = {
        "verify": {"verify_trust": True, "remote_manifest_fetch": False, "ocsp_fetch": False},
        "builder": {"thumbnail": {"enabled": False}},
    }
    if roots:
        settings["trust"] = {"user_anchors": roots}
    return Context.from_dict(settings)


def _sign_embedded(
    path: Path, draft: Path, media_type: str, statement: dict[str, Any], files: Mapping[str, Path], identity: SigningIdentity
) -> None:
    manifest, carried = _manifest_of(statement, media_type, files)

    def write(target: IO[bytes]) -> None:
        import c2pa

        try:
            with draft.open("rb") as source:
                _sign_stream(manifest, carried, identity, media_type, source, target)
        except c2pa.C2paError as error:
            raise OutputError(
                f"{path} could not be signed ({error}); check that it is a whole {path.suffix} file and that the "
                "signing key fits its certificates."
            ) from error

    _replace_atomically(draft, write, shown=path)


def _manifest_of(
    statement: dict[str, Any], media_type: str, files: Mapping[str, Path]
) -> tuple[dict[str, Any], list[tuple[Path, dict[str, str]]]]:
    """The manifest's definition, and the files whose own manifests are carried along, with their descriptions."""
    program, _, version = statement["software"].rpartition(" ")
    generator = {"name": program, "version": version} if program else {"name": version}
    created = {"action": "c2pa.created", "digitalSourceType": GENERATED_BY_MODEL, "when": statement["when"]}
    bindings = _soft_bindings(statement)
    marked = [{"action": "c2pa.watermarked.bound", "when": statement["when"]} for _ in bindings]
    described = {name: _ingredient(name, digest) for name, digest in statement["ingredients"].items()}
    readable = {name: file for name, file in files.items() if file.suffix.lower() in _MEDIA_TYPES}
    manifest = {
        "claim_generator_info": [generator],
        "title": statement["title"],
        "format": media_type,
        "ingredients": [{"format": "application/octet-stream", **entry} for name, entry in described.items() if name not in readable],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [created, *marked]}},
            *bindings,
            {"label": STATEMENT_LABEL, "data": statement},
        ],
    }
    return manifest, [(file, described[name]) for name, file in readable.items()]


def _sign_stream(
    manifest: dict[str, Any],
    carried: Sequence[tuple[Path, dict[str, str]]],
    identity: SigningIdentity,
    media_type: str,
    source: IO[bytes],
    target: IO[bytes],
) -> None:
    import c2pa

    # The chain may be a certificate authority's, of which only root.pem's own certificates are trusted.
    with _context(identity.root.decode()) as context, c2pa.Builder(manifest, context=context) as builder:
        for file, described in carried:
            _carry_manifest(builder, described, file)
        info = c2pa.C2paSignerInfo(b"es256", identity.chain, identity.key, None)
        with c2pa.Signer.from_info(info) as signer:
            builder.sign(signer, media_type, source, target)


def _ingredient(name: str, digest: str) -> dict[str, str]:
    return {"title": name, "relationship": "inputTo", "description": f"sha256:{digest}"}


def _carry_manifest(builder: Any, described: dict[str, str], file: Path) -> None:
    """Add a file that went in, together with the manifest it may carry, so that the chain of origin stays whole."""
    import c2pa

    try:
        with file.open("rb") as stream:
            builder.add_ingredient(described, _MEDIA_TYPES[file.suffix.lower()], stream)
    except c2pa.C2paError as error:
        logger.warning("The manifest of %s cannot be carried along (%s); its hash is stated.", file.name, error)


def _from_report(report: dict[str, Any], validation_state: str) -> ManifestInfo:
    manifest = report.get("manifests", {}).get(report.get("active_manifest"), {})
    assertions = {entry["label"]: entry.get("data", {}) for entry in manifest.get("assertions", [])}
    actions = _dictionary(next((data for label, data in assertions.items() if label.startswith("c2pa.actions")), {}))
    sources = {str(_dictionary(action).get("digitalSourceType", "")) for action in actions.get("actions") or []}
    # Whoever signs writes what they like.
    statement = _dictionary(assertions.get(STATEMENT_LABEL, {}))
    ingredients = _dictionary(statement.get("ingredients"))
    generator = (manifest.get("claim_generator_info") or [{}])[0]
    failures = report.get("validation_results", {}).get("activeManifest", {}).get("failure", [])
    states: dict[str, State] = {"Trusted": "trusted", "Valid": "valid"}
    return ManifestInfo(
        state=states.get(validation_state, "invalid"),
        title=manifest.get("title", ""),
        software=" ".join(filter(None, (generator.get("name", ""), generator.get("version", "")))),
        is_generated=any(source.endswith("trainedAlgorithmicMedia") for source in sources),
        ingredients={str(name): str(digest) for name, digest in ingredients.items()},
        signer=manifest.get("signature_info", {}).get("issuer", ""),
        watermark_payload=statement.get("watermark_payload"),
        maker=str(statement.get("maker", "")),
        consent=str(statement.get("consent", "")),
        when=str(statement.get("when", "")),
        # An unknown signer is what "valid" means; it is not a problem of the file.
        problems=tuple(f["code"] for f in failures if f["code"] != "signingCredential.untrusted"),
    )


def _dictionary(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _mentions_c2pa(path: Path) -> bool:
    """Whether the bytes of a manifest's label occur in the file; read in pieces that overlap."""
    label, tail = b"c2pa.claim", b""
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            if label in tail + piece:
                return True
            tail = piece[-len(label) :]
    return False


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + SIDECAR_SUFFIX)


def _write_sidecar(path: Path, statement: dict[str, Any], draft: Path) -> Path:
    note = _sidecar(path)
    text = json.dumps({"file_sha256": file_sha256(draft), **statement}, indent=2, ensure_ascii=False) + "\n"

    def write(target: IO[bytes]) -> None:
        target.write(text.encode())

    _replace_atomically(note, write, mode_from=draft)
    return note


def _read_sidecar(path: Path) -> ManifestInfo:
    note = _sidecar(path)
    if not note.is_file():
        return ManifestInfo("none")
    try:
        statement = json.loads(note.read_bytes())
        fits = statement["file_sha256"] == file_sha256(path)
        return ManifestInfo(
            state="unsigned" if fits else "invalid",
            title=str(statement["title"]),
            software=str(statement["software"]),
            is_generated=statement["digital_source_type"] == GENERATED_BY_MODEL,
            ingredients={str(name): str(digest) for name, digest in statement["ingredients"].items()},
            watermark_payload=statement.get("watermark_payload"),
            maker=str(statement.get("maker", "")),
            consent=str(statement.get("consent", "")),
            when=str(statement["when"]),
            problems=() if fits else ("file_sha256.mismatch",),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OSError):
        return ManifestInfo("invalid", problems=("sidecar.malformed",))


def _replace_atomically(path: Path, write: Callable[[IO[bytes]], None], mode_from: Path | None = None, shown: Path | None = None) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then let it take the name; nothing is left on failure."""
    with atomic_file(path, shown) as draft:
        with draft.open("w+b") as target:
            write(target)
        shutil.copymode(mode_from or path, draft)
