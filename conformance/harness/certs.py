"""Test certificates, made once with the ``openssl`` command: a CA and leaves for two server names and a client."""
import ssl
import subprocess

LEAVES = {"server": "DNS:a.example", "other": "DNS:b.example", "client": "DNS:client.example"}


def openssl(folder, *args):
    subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)


def new_key(folder, name):
    openssl(folder, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", f"{name}.key")


def make(folder):
    """Fills `folder` with ca.pem and NAME.pem / NAME.key of every leaf; does nothing when they are there."""
    if (folder / "done").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    new_key(folder, "ca")
    subject = ["-subj", "/CN=Conformance CA"]
    openssl(folder, "req", "-x509", "-new", "-key", "ca.key", *subject, "-days", "3650", "-out", "ca.pem")
    for name, san in LEAVES.items():
        new_key(folder, name)
        (folder / f"{name}.ext").write_text(f"subjectAltName={san}\nextendedKeyUsage=serverAuth,clientAuth\n")
        openssl(folder, "req", "-new", "-key", f"{name}.key", "-subj", f"/O=Conformance/CN={name}", "-out", f"{name}.csr")
        openssl(
            folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "3650", "-extfile", f"{name}.ext", "-out", f"{name}.pem",
        )
    (folder / "done").touch()
    return folder


def name_of(folder, der):
    """Which of our leaves a certificate is."""
    for name in LEAVES:
        if ssl.PEM_cert_to_DER_cert((folder / f"{name}.pem").read_text()) == der:
            return name
    return "unknown"
