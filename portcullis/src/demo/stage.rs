//! The directory of a demo: files, names for the samples, and its removal, also of one that was left behind.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::process::getuid;

use super::failed;
use crate::messages::Message;
use crate::output;

const PREFIX: &str = "portcullis-demo-";

/// One demo's directory. Dropping it removes everything.
pub(super) struct Stage {
    pub(super) dir: PathBuf,
    pub(super) orders: SocketAddr,
    _lock: File,
}

impl Stage {
    /// Makes the directory below the first place that allows programs to run.
    pub(super) fn set(chosen: Option<&Path>) -> Result<Self, Message> {
        let mut last = None;
        for place in places(chosen) {
            sweep(&place);
            match Self::below(&place) {
                Ok(stage) => return Ok(stage),
                Err(error) => last = Some(error),
            }
        }
        let error = last.unwrap_or_else(|| io::Error::other("no directory to work in"));
        Err(failed("no directory where programs may run", &error))
    }

    fn below(place: &Path) -> io::Result<Self> {
        let dir = place.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        let lock = File::create(dir.join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        // A reader that goes away ends the demo at its next line; the directory must not stay.
        output::when_closed(Some(dir.clone()));
        let stage = Self { orders: free_port(50_051)?, dir, _lock: lock };
        stage.write()?;
        Ok(stage)
    }

    fn write(&self) -> io::Result<()> {
        let bin = self.dir.join("bin");
        fs::create_dir(&bin)?;
        let own = std::env::current_exe()?;
        for name in ["web", "orders"] {
            let path = self.program(name);
            // Hard links keep it cheap; another file system or protected links make it a copy.
            fs::hard_link(&own, &path).or_else(|_| fs::copy(&own, &path).map(drop))?;
        }
        // A directory that forbids programs shows itself here and not half way through.
        std::process::Command::new(self.program("web")).arg("version").output()?;
        fs::create_dir(self.policies())?;
        fs::write(self.policies().join("orders.cedar"), POLICY)?;
        fs::write(self.policies().join("orders_test.json"), CASES)?;
        fs::write(self.config(), self.configuration()?)
    }

    /// The sample `name` as a program of its own.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.dir.join("bin").join(name)
    }

    pub(super) fn policies(&self) -> PathBuf {
        self.dir.join("policies")
    }

    pub(super) fn admin_socket(&self) -> PathBuf {
        self.dir.join("data/admin.sock")
    }

    pub(super) fn config(&self) -> PathBuf {
        self.dir.join("portcullis.toml")
    }

    pub(super) fn workload_socket(&self) -> String {
        format!("unix://{}", self.dir.join("workload.sock").display())
    }

    fn configuration(&self) -> io::Result<String> {
        let (gateway, admin) = (free_ports(9_443)?, free_port(8_080)?);
        let uid = getuid().as_raw();
        let dir = self.dir.display();
        let entry = |name: &str| {
            format!(
                "[[ca.entry]]\nspiffe_id = \"spiffe://example.org/{name}\"\nselectors = [\"unix:uid:{uid}\", \"unix:path:{}\"]\nnamespace = \"shop\"\n",
                self.program(name).display()
            )
        };
        Ok(format!(
            r#"version = 1
trust_domain = "example.org"
data_dir = "{dir}/data"

[ca]
{web}
{orders_entry}
[agent]
socket = "unix://{dir}/workload.sock"

[policies]
dir = "{dir}/policies"

[enforcer]
id = "spiffe://example.org/gateway"
dns_names = ["localhost"]
workers = 2

[[enforcer.listener]]
name = "public"
bind = ["tcp://{gateway}", "quic://{gateway}"]

[[enforcer.service]]
name = "orders"
namespace = "shop"
methods = ["shop.Orders/Get", "shop.Orders/List", "shop.Orders/Refund"]

[[enforcer.route]]
name = "orders"
service = "orders"
match = {{ grpc = "shop.Orders/*" }}
to = ["h2c://{orders}"]

[admin]
listen = ["http://{admin}"]
"#,
            web = entry("web"),
            orders_entry = entry("orders"),
            orders = self.orders,
        ))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        output::when_closed(None);
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!(event = "demo_directory_left", dir = %self.dir.display(), error = %error, "could not remove the demo's directory");
        }
    }
}

/// The policy of the demo: reading is allowed, and nothing says that refunds are.
pub(crate) const POLICY: &str = r#"// web may read orders. Nobody said that it may refund them.
@id("orders-read")
// Edit and save: the change is in force at once.
permit (
  principal == Workload::"spiffe://example.org/web",
  action in Action::"call",
  resource
)
when { resource in [Method::"shop.Orders/Get", Method::"shop.Orders/List"] };
"#;

/// What the policy of the demo is meant to do.
pub(crate) const CASES: &str = include_str!("orders_test.json");

fn places(chosen: Option<&Path>) -> Vec<PathBuf> {
    match chosen {
        Some(place) => vec![place.to_owned()],
        None => ["XDG_RUNTIME_DIR", "TMPDIR"]
            .iter()
            .filter_map(std::env::var_os)
            .map(PathBuf::from)
            .chain([PathBuf::from("/tmp")])
            .filter(|place| place.is_dir())
            .collect(),
    }
}

/// Removes what a killed demo left: directories of ours whose lock nobody holds.
fn sweep(place: &Path) {
    let Ok(found) = fs::read_dir(place) else { return };
    for entry in found.flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let lock = File::open(entry.path().join("lock"));
        let abandoned = lock.is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok());
        if is_ours && abandoned {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

/// The same for TCP and UDP, so that one number serves both.
fn free_ports(usual: u16) -> io::Result<SocketAddr> {
    let mut last = free_port(usual)?;
    for _ in 0..16 {
        if UdpSocket::bind(last).is_ok() {
            return Ok(last);
        }
        last = free_port(0)?;
    }
    Err(io::Error::other("no port is free for both TCP and UDP"))
}

/// `usual` on loopback when it is free, else a free one.
fn free_port(usual: u16) -> io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", usual)).or_else(|_| TcpListener::bind(("127.0.0.1", 0)))?.local_addr()
}
