//! The way to a publisher, as a port: the admin socket of another process of this host, or what `portcullis` puts in its
//! place for a publisher elsewhere. One connection at a time; who answers there is for the way to know.

use futures_util::{FutureExt as _, future::BoxFuture};
use std::{fmt, io, path::PathBuf};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
};

/// Where the policies come from.
pub trait Way: fmt::Debug + Send + Sync {
    /// The publisher, as people name it.
    fn place(&self) -> String;

    /// A new connection to it, over which HTTP/2 is spoken.
    fn dial(&self) -> BoxFuture<'static, io::Result<Box<dyn Connection>>>;
}

/// A connection to a publisher.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// The admin socket of another process of this host.
#[derive(Debug, Clone)]
pub struct AdminSocket(pub PathBuf);

impl Way for AdminSocket {
    fn place(&self) -> String {
        format!("unix://{}", self.0.display())
    }

    fn dial(&self) -> BoxFuture<'static, io::Result<Box<dyn Connection>>> {
        let path = self.0.clone();
        async move { Ok(Box::new(UnixStream::connect(path).await?) as Box<dyn Connection>) }.boxed()
    }
}
