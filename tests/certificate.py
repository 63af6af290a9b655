"""A certificate for 127.0.0.1 that signs itself."""

import subprocess
from pathlib import Path

from tests.needs import needs


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Paths of the certificate and of its key. Without openssl on the PATH the test is skipped."""
    program = needs("openssl", "no certificate can be made")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", certificate, "-keyout", key]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key
