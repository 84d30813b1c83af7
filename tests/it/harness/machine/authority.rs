//! A certificate authority of the tests' own.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Its certificate and key, in a folder.
pub struct Authority {
    folder: PathBuf,
}

impl Authority {
    /// A new one.
    pub fn new(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let usage = "-addext keyUsage=critical,keyCertSign,cRLSign";
        let authority = Self { folder: folder.to_owned() };
        let make = format!("req -x509 {KEY} -days 3650 -subj /CN=rapidclaw-e2e-ca {usage} -keyout ca.key -out ca.crt");
        authority.openssl(&make);
        authority
    }

    /// Its own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Makes `NAME.crt` and `NAME.key` for these (`DNS:…`, `IP:…`).
    pub fn issue(&self, name: &str, holds: &[&str]) -> (PathBuf, PathBuf) {
        // Python verifies strictly: without these it takes no certificate.
        let extensions = format!(
            "subjectAltName={}\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n\
             keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n",
            holds.join(",")
        );
        std::fs::write(self.folder.join(format!("{name}.ext")), extensions).unwrap();
        self.openssl(&format!("req {KEY} -subj /CN={name} -keyout {name}.key -out {name}.csr"));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -extfile {name}.ext -out {name}.crt"
        ));
        (self.folder.join(format!("{name}.crt")), self.folder.join(format!("{name}.key")))
    }

    fn openssl(&self, line: &str) {
        let done = Command::new("openssl").args(line.split(' ')).current_dir(&self.folder).output();
        let done = done.unwrap_or_else(|error| panic!("this test needs openssl (apt-get install openssl): {error}"));
        assert!(done.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
