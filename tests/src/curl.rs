//! curl with the identity of a workload, to a gateway of this machine.

use std::path::Path;
use std::process::Command;

use crate::Result;

/// A call of `path` at that port, by the SVID in `tls`.
pub(crate) fn command(port: u16, tls: &Path, path: &str) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--cacert"]).arg(tls.join("bundle.pem"));
    curl.arg("--cert").arg(tls.join("svid.pem")).arg("--key").arg(tls.join("svid.key"));
    curl.arg(format!("https://localhost:{port}{path}"));
    curl
}

/// Status and body of the answer.
pub(crate) fn answer(mut curl: Command, arguments: &[&str]) -> Result<(u16, String)> {
    let own = ["--max-time", "10", "-w", "\n%{http_code}"];
    let output = curl.args(own).args(arguments).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').ok_or("curl printed nothing")?;
    if !output.status.success() && status == "000" {
        return Err(format!("curl: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok((status.parse()?, body.to_owned()))
}
