//! `nuncio sandbox control-plane`: serves the resources in the files of a folder, and prints what proxies make of them.

use std::net::SocketAddr;
use std::time::Duration;

use nuncio_plane::{Folder, Plane};

use super::signals::Stop;
use super::{Failure, args, say};

/// Between two looks at the folder.
const LOOK: Duration = Duration::from_millis(50);

/// A control plane with a folder as its source.
pub(super) struct FromFolder {
    plane: Plane,
    folder: Folder,
}

impl FromFolder {
    /// Listens, and reads the folder for the first time.
    ///
    /// # Errors
    /// When the address cannot be used.
    pub(super) fn start(listen: SocketAddr, folder: Folder) -> Result<FromFolder, Failure> {
        let plane = Plane::start(listen, |event| say(&event.to_string()))
            .map_err(|e| format!("the control plane cannot listen on {listen}: {e}"))?;
        let mut source = FromFolder { plane, folder };
        source.look();
        Ok(source)
    }
    /// Where it listens.
    pub(super) fn addr(&self) -> SocketAddr {
        self.plane.addr()
    }
    /// Serves what changes in the folder, for ever.
    pub(super) async fn follow(&mut self) -> Failure {
        loop {
            tokio::time::sleep(LOOK).await;
            self.look();
        }
    }
    fn look(&mut self) {
        let found = self.folder.look();
        for problem in found.problems {
            say(&format!("not sent: {problem}"));
        }
        if let Some(all) = found.resources {
            self.plane.change(|world| world.replace(all));
        }
    }
}

/// Runs until SIGINT or SIGTERM.
///
/// # Errors
/// When it cannot be started.
pub(super) async fn run(options: args::ControlPlane) -> Result<(), Failure> {
    let mut stop = Stop::new()?;
    if !options.folder.is_dir() {
        return Err(format!("{} is no folder", options.folder.display()));
    }
    let mut source = FromFolder::start(options.listen, Folder::new(options.folder))?;
    say(&format!("the control plane listens on {}", source.addr()));
    tokio::select! {
        why = source.follow() => Err(why),
        () = stop.wait() => Ok(()),
    }
}
