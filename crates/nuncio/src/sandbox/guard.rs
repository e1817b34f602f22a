//! A child process that cannot outlive the sandbox, even when that is killed.
//!
//! `nuncio sandbox guard PARENT PROGRAM ARGS…` asks the kernel for SIGTERM when the thread that started it ends
//! (`PR_SET_PDEATHSIG`; the setting survives `execve`), and becomes PROGRAM. To ask between `fork` and `execve` would
//! need `unsafe`; one more `execve` does not.

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use super::Failure;

/// Becomes the program; returns only on failure.
///
/// # Errors
/// When the words are not PARENT PROGRAM ARGS…, or the program cannot be run.
pub(super) fn run(words: &[String]) -> Result<(), Failure> {
    let [parent, program, args @ ..] = words else {
        return Err("guard: PARENT and PROGRAM are missing".into());
    };
    let parent: i32 = parent.parse().map_err(|_| format!("guard: {parent:?} is no process id"))?;
    set_parent_process_death_signal(Some(Signal::TERM)).map_err(|e| format!("guard: {e}"))?;
    // The parent may have ended before the line above.
    if getppid().map(|p| p.as_raw_nonzero().get()) != Some(parent) {
        return Err("guard: the sandbox is gone".into());
    }
    Err(format!("cannot run {program}: {}", Command::new(program).args(args).exec()))
}
