//! What projects of other people install from: an index with a login, a wheel beside the project, uv's locks.

use crate::machine::docker_said;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A wheel made by hand: `beside` 3.
pub fn wheel(folder: &Path) {
    let script = "import zipfile, sys\n\
        files = {'beside.py': \"value = 'beside'\\n\", 'beside-3.dist-info/METADATA': 'Metadata-Version: 2.1\\nName: beside\\nVersion: 3\\n',\n\
        'beside-3.dist-info/WHEEL': 'Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n',\n\
        'beside-3.dist-info/RECORD': 'beside.py,,\\nbeside-3.dist-info/METADATA,,\\nbeside-3.dist-info/WHEEL,,\\nbeside-3.dist-info/RECORD,,\\n'}\n\
        archive = zipfile.ZipFile(sys.argv[1], 'w')\n\
        [archive.writestr(name, text) for name, text in files.items()]\n\
        archive.close()\n";
    std::fs::create_dir_all(folder).unwrap();
    let made = Command::new("python3").args(["-c", script]).arg(folder.join("beside-3-py3-none-any.whl")).status();
    assert!(made.unwrap().success());
}

/// `tests/projects/private_index.py`, where containers reach this machine.
pub struct Index {
    child: Child,
    pub address: String,
    log: tempfile::NamedTempFile,
}

impl Index {
    pub fn start(password: &str) -> Self {
        let gateway = ["network", "inspect", "bridge", "-f", "{{(index .IPAM.Config 0).Gateway}}"];
        let gateway = docker_said(&gateway);
        let log = tempfile::NamedTempFile::new().unwrap();
        let script = crate::machine::repository().join("tests/projects/private_index.py");
        let mut command = Command::new("python3");
        command.arg(script).args([&*gateway, "ann", password]).arg(log.path()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self { child, address: format!("{gateway}:{}", port.trim()), log }
    }

    /// What it was asked.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn uv(folder: &Path, arguments: &[&str]) {
    let python = std::env::var("RAPIDCLAW_TEST_PYTHON").expect("RAPIDCLAW_TEST_PYTHON: run scripts/test.sh");
    let uv = Path::new(&python).with_file_name("uv");
    let login = [("UV_INDEX_MINE_USERNAME", "ann"), ("UV_INDEX_MINE_PASSWORD", "hunter2-of-a-lock")];
    let output = Command::new(uv).args(arguments).current_dir(folder).envs(login).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
