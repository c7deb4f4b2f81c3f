"""This installation's signing key and its certificates.

They are made at first use and kept in ``<user folder>/signing`` as

* ``key.pem``: the signing key (ES256), readable by its owner only,
* ``chain.pem``: the signing certificate, followed by those that vouch for it,
* ``root.pem``: the certificates this installation trusts when reading.

Who has a certificate of their own replaces those three files.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from triportrait.errors import OutputError
from triportrait.files import atomic_folder, remove_rests

logger = logging.getLogger(__name__)

_CERTIFICATE_LIFE = timedelta(days=3650)
_DRAFT_AGE_S = 86_400.0


@dataclass(frozen=True, slots=True)
class SigningIdentity:
    """PEM texts: the private key, its certificate chain (leaf first) and the trusted root."""

    key: bytes = field(repr=False)
    chain: bytes
    root: bytes


def user_folder() -> Path:
    """Where this user's keys live: ``$TRIPORTRAIT_HOME``, else ``triportrait`` in XDG's config folder."""
    if home := os.environ.get("TRIPORTRAIT_HOME"):
        return Path(home)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "triportrait"


def signing_identity(key_folder: Path | str | None = None) -> SigningIdentity:
    """This installation's key and certificates, made on first use.

    Where the folder cannot be written, a key for this one occasion is made: its signatures are valid, not trusted.

    Raises:
        OutputError: only some of the three files are there.
    """
    folder = signing_folder(key_folder)
    remove_rests(folder.parent)
    _remove_former_drafts(folder)
    if not (folder / "key.pem").exists():
        identity = _make_identity()
        try:
            _store_identity(identity, folder)
        except OSError as error:
            logger.warning(
                "%s cannot be written (%s): signing with a key for this occasion. Set TRIPORTRAIT_HOME to a folder "
                "that can be written to keep one.",
                folder,
                error.strerror,
            )
            return identity
    try:
        # Read back: another process may have been first, and its key is then everybody's.
        return SigningIdentity(*((folder / name).read_bytes() for name in ("key.pem", "chain.pem", "root.pem")))
    except OSError as error:
        raise OutputError(f"{error.filename} cannot be read; restore it, or delete {folder} to have a new key made.") from error


def signing_folder(key_folder: Path | str | None = None) -> Path:
    """Where key and certificates are: the folder that is given, or the one in this user's."""
    return user_folder() / "signing" if key_folder is None else Path(key_folder)


def _make_identity() -> SigningIdentity:
    """A root certificate whose key is forgotten at once, and a leaf under it as C2PA's certificate profile asks."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = datetime.now(UTC)
    root_key = ec.generate_private_key(ec.SECP256R1())
    leaf_key = ec.generate_private_key(ec.SECP256R1())

    def name(common_name: str) -> x509.Name:
        organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "TriPortrait user (self-made certificate)")
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name), organisation])

    def usage(**granted: bool) -> x509.KeyUsage:
        every = (
            "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign "
            "crl_sign encipher_only decipher_only"
        )
        return x509.KeyUsage(**{use: granted.get(use, False) for use in every.split()})

    def certificate(subject: str, key: ec.EllipticCurvePrivateKey, is_root: bool, key_usage: x509.KeyUsage) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("TriPortrait local root"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + _CERTIFICATE_LIFE)
            .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
            .add_extension(key_usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
        )

    root = certificate("TriPortrait local root", root_key, True, usage(key_cert_sign=True, crl_sign=True))
    leaf = certificate("TriPortrait local signer", leaf_key, False, usage(digital_signature=True)).add_extension(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False
    )
    pem = serialization.Encoding.PEM
    root_pem = root.sign(root_key, hashes.SHA256()).public_bytes(pem)
    return SigningIdentity(
        key=leaf_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        chain=leaf.sign(root_key, hashes.SHA256()).public_bytes(pem) + root_pem,
        root=root_pem,
    )


def _store_identity(identity: SigningIdentity, folder: Path) -> None:
    """Write all three files or none: a folder is filled beside the target and takes its name when complete."""
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with atomic_folder(folder) as draft:
            for name, text in (("key.pem", identity.key), ("chain.pem", identity.chain), ("root.pem", identity.root)):
                with open(os.open(draft / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(text)
    except OSError:
        if not (folder / "key.pem").exists():
            raise


def _remove_former_drafts(folder: Path) -> None:
    """Folders that a former version filled beside ``folder`` and left, with a key in them, when it was killed."""
    for draft in folder.parent.glob(f".{folder.name}.*"):
        with suppress(OSError):
            is_ours = re.fullmatch(r"[a-z0-9_]{8}", draft.name.removeprefix(f".{folder.name}.")) is not None
            if is_ours and draft.is_dir() and not draft.is_symlink() and time.time() - draft.stat().st_mtime > _DRAFT_AGE_S:
                shutil.rmtree(draft, ignore_errors=True)
