#![expect(clippy::disallowed_methods, reason = "tests may stand still")]

use super::*;
use crate::testing::keep_files;
use nuncio_core::stats::Store;
use std::path::PathBuf;

/// A fresh folder below the target folder's temporary files, gone at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("nuncio-ext-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }
    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Waits until it is so, or says what is not.
fn wait_for(what: &str, is: impl Fn() -> bool) {
    for _ in 0..500 {
        if is() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{what}: not within 5 s");
}

#[test]
fn lines_wait_in_their_order_until_they_are_flushed() {
    let _kept = keep_files();
    let (dir, store) = (Dir::new("order"), Store::new());
    let path = dir.path("log");
    std::fs::write(&path, "old\n").unwrap();
    let file = open(&path, &store).unwrap();
    let same = open(&path, &store).unwrap();
    assert!(Arc::ptr_eq(&file, &same));
    file.append(b"1\n");
    same.append(b"2\n");
    file.append(b"");
    assert_eq!(read(&path), "old\n");
    let stats = FilesystemStats::of(&store);
    assert_eq!((stats.write_buffered().value(), stats.write_total_buffered().value()), (2, 4));
    file.write_out();
    assert_eq!(read(&path), "old\n1\n2\n");
    assert_eq!((stats.write_completed().value(), stats.write_total_buffered().value()), (1, 0));
}

#[test]
fn a_full_buffer_is_written_before_its_time() {
    let _kept = keep_files();
    let (dir, store) = (Dir::new("full"), Store::new());
    let path = dir.path("log");
    let file = open(&path, &store).unwrap();
    let line = [b'x'; 1024];
    (0..64).for_each(|_| file.append(&line));
    thread::sleep(Duration::from_millis(50));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0, "64 KiB may wait");
    file.append(&line);
    wait_for("65 KiB are written", || std::fs::metadata(&path).unwrap().len() == 65 * 1024);
}

#[test]
fn nobody_holds_the_file_any_more() {
    let (dir, store) = (Dir::new("dropped"), Store::new());
    let path = dir.path("log");
    let file = open(&path, &store).unwrap();
    file.append(b"last words\n");
    drop(file);
    wake();
    wait_for("what waited is written", || read(&path) == "last words\n");
    wait_for("the file is closed", || lock(&FILES).iter().all(|f| *f.path != *path));
}

#[test]
fn rotation_sends_what_waits_to_the_new_file() {
    let _kept = keep_files();
    let (dir, store) = (Dir::new("rotation"), Store::new());
    let (path, old) = (dir.path("log"), dir.path("log.1"));
    let file = open(&path, &store).unwrap();
    file.append(b"1\n");
    file.write_out();
    std::fs::rename(&path, &old).unwrap();
    file.append(b"2\n");
    reopen();
    wait_for("the new file", || std::fs::read_to_string(&path).is_ok_and(|t| t == "2\n"));
    assert_eq!(read(&old), "1\n");
}

#[test]
fn opening_again_is_tried_until_it_works() {
    let _kept = keep_files();
    let (dir, store) = (Dir::new("gone"), Store::new());
    let folder = dir.path("sub");
    std::fs::create_dir(&folder).unwrap();
    let path = dir.path("sub/log");
    let file = open(&path, &store).unwrap();
    let stats = FilesystemStats::of(&store);
    std::fs::remove_dir_all(&folder).unwrap();
    file.append(b"lost\n");
    file.reopen.store(true, Relaxed);
    file.write_out();
    assert_eq!((stats.reopen_failed().value(), stats.write_failed().value()), (1, 1));
    assert_eq!(stats.write_total_buffered().value(), 0);
    std::fs::create_dir(&folder).unwrap();
    file.append(b"kept\n");
    file.write_out();
    assert_eq!(read(&path), "kept\n");
}

#[test]
fn a_stalled_disk_does_not_take_the_memory() {
    let _kept = keep_files();
    let store = Store::new();
    let file = open("/dev/null", &store).unwrap();
    let stats = FilesystemStats::of(&store);
    // The writer cannot take anything while we hold its side.
    let stalled = lock(&file.out);
    let line = vec![b'x'; 1 << 20];
    (0..20).for_each(|_| file.append(&line));
    assert_eq!((stats.write_buffered().value(), stats.write_failed().value()), (16, 4));
    drop(stalled);
    file.write_out();
    file.append(b"again\n");
    assert_eq!(stats.write_buffered().value(), 17);
}

#[test]
fn errors_are_envoys() {
    let store = Store::new();
    let refusal = |path: &str| open(path, &store).err().unwrap().0;
    assert_eq!(
        refusal("/nonexistent/dir/x"),
        "unable to open file '/nonexistent/dir/x': No such file or directory"
    );
    assert_eq!(refusal("/"), "unable to open file '/': Is a directory");
}

#[test]
fn many_threads_lose_nothing_and_tear_no_line() {
    let _kept = keep_files();
    let (dir, store) = (Dir::new("threads"), Store::new());
    let path = dir.path("log");
    let file = open(&path, &store).unwrap();
    thread::scope(|s| {
        for t in 0..4 {
            let (file, store) = (&file, &store);
            s.spawn(move || {
                let _shard = store.register_shard();
                (0..5000)
                    .for_each(|i| file.append(format!("{t} {i} abcdefghijklmnopqrstuvwxyz\n").as_bytes()));
            });
        }
    });
    file.write_out();
    let text = read(&path);
    assert_eq!(text.lines().count(), 20_000);
    let mut next = [0; 4];
    for line in text.lines() {
        let mut words = line.split(' ');
        let t: usize = words.next().unwrap().parse().unwrap();
        let i: usize = words.next().unwrap().parse().unwrap();
        assert_eq!((i, words.next()), (next[t], Some("abcdefghijklmnopqrstuvwxyz")));
        next[t] += 1;
    }
    let stats = FilesystemStats::of(&store);
    assert_eq!((stats.write_buffered().value(), stats.write_total_buffered().value()), (20_000, 0));
}
