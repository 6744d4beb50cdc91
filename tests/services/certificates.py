"""A certificate authority of the test's own, made with the openssl program."""

from __future__ import annotations

import hashlib
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

SERVER_EXTENSIONS = "subjectAltName=DNS:localhost,IP:127.0.0.1"


@dataclass(frozen=True)
class Certificate:
    certificate: Path
    key: Path

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex."""
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.certificate.read_text())).hexdigest()


class Authority:
    """Signs certificates into `directory`; `self.root` is its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = self._files("ca")
        self._openssl("req", "-x509", *self._new(self.root, "Test CA"), "-out", self.root.certificate)

    def issue(self, name: str, extensions: str = SERVER_EXTENSIONS) -> Certificate:
        issued = self._files(name)
        request = self.directory / f"{name}.csr"
        self._openssl("req", *self._new(issued, name), "-out", request)
        extension_file = self.directory / f"{name}.ext"
        extension_file.write_text(extensions + "\n")
        signer = ("-CA", self.root.certificate, "-CAkey", self.root.key, "-CAcreateserial")
        options = ("-days", "2", "-extfile", extension_file, "-out", issued.certificate)
        self._openssl("x509", "-req", "-in", request, *signer, *options)
        return issued

    def _files(self, name: str) -> Certificate:
        return Certificate(self.directory / f"{name}.crt", self.directory / f"{name}.key")

    def _new(self, files: Certificate, name: str) -> tuple[str | Path, ...]:
        return ("-newkey", "rsa:2048", "-nodes", "-keyout", files.key, "-subj", f"/CN={name}", "-sha256")

    def _openssl(self, *arguments: str | Path) -> None:
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)
