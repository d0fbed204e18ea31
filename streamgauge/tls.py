"""TLS from PEM files: the authority that is trusted, and the certificate that says who we are."""

import ssl
from pathlib import Path


def tls_context(
    ca_file: str | None, certificate_file: str | None, key_file: str | None, key_password: str | None
) -> ssl.SSLContext:
    """A client's context; without `ca_file` the system's authorities are trusted. Names are always checked.

    Raises ValueError, which names the setting, when a file is not what it must be.
    """
    context = _trusting(ca_file)
    if not certificate_file:
        return context
    for name, file in (("CERTIFICATE_FILE", certificate_file), ("KEY_FILE", key_file)):
        if file:
            _check_readable(name, file)

    key, was_asked = key_file or certificate_file, False

    def tell_password() -> str:
        # Called for an encrypted key only. Without it OpenSSL would ask the terminal.
        nonlocal was_asked
        was_asked = True
        if key_password is None:
            raise ValueError(f"KEY_FILE={key} is encrypted; set KEY_PASSWORD")
        return key_password

    try:
        context.load_cert_chain(certificate_file, key_file, tell_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            why = f"KEY_FILE={key} is not the key of CERTIFICATE_FILE={certificate_file}"
        elif was_asked:
            why = f"KEY_PASSWORD does not open KEY_FILE={key}"
        else:
            why = f"CERTIFICATE_FILE={certificate_file} and KEY_FILE={key} must hold a certificate and its key in PEM"
        raise ValueError(why) from None
    except OSError as error:
        raise ValueError(f"CERTIFICATE_FILE={certificate_file} cannot be read: {error.strerror}") from None
    return context


def _trusting(ca_file: str | None) -> ssl.SSLContext:
    if ca_file:
        _check_readable("CA_FILE", ca_file)
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise ValueError(f"CA_FILE={ca_file} holds no certificate in PEM") from None
    except OSError as error:  # gone since: files are being replaced
        raise ValueError(f"CA_FILE={ca_file} cannot be read: {error.strerror}") from None
    return context


def _check_readable(name: str, file: str) -> None:
    try:
        Path(file).read_bytes()
    except OSError as error:
        raise ValueError(f"{name}={file} cannot be read: {error.strerror}") from None
