//! Certificates as an operator gets them: PEM files by openssl.

use std::path::Path;
use std::process::{Command, Stdio};

use broker::edge::tls::TlsFiles;

/// A certificate for `localhost`, good for two days, by an authority of its own (`ca.pem`), in files below `directory`; none
/// where there is no openssl.
pub fn certificate(directory: &Path, serial: u32) -> Option<TlsFiles> {
    Command::new("openssl").arg("version").output().ok()?;
    std::fs::write(directory.join("names"), "subjectAltName=DNS:localhost").unwrap();
    for arguments in [
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority".to_owned(),
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out request.pem -subj /CN=localhost".to_owned(),
        format!("x509 -req -in request.pem -CA ca.pem -CAkey ca.key -set_serial {serial} -days 2 -out cert.pem -extfile names"),
    ] {
        let mut command = Command::new("openssl");
        command.current_dir(directory).args(arguments.split(' '));
        let done = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(done.success(), "{arguments}");
    }
    Some(TlsFiles {
        certificates: directory.join("cert.pem"),
        key: directory.join("key.pem"),
    })
}
