use super::*;

fn pooled() -> usize {
    BLOCKS.with(|p| p.borrow().len())
}

#[test]
fn read_take_and_return() {
    let mut b = ReadBuf::new();
    b.extend(b"hello world");
    let before = pooled();
    let c = b.take(5);
    assert_eq!((&*c, b.data()), (&b"hello"[..], &b" world"[..]));
    let d = b.take(100);
    assert_eq!(&*d, b" world");
    assert!(b.block.is_none(), "an empty buffer holds no memory");
    drop(c);
    assert_eq!(pooled(), before, "a chunk still shows the block");
    drop(d);
    assert_eq!(pooled(), before + 1);
}

#[test]
fn shared_block_is_not_overwritten() {
    let mut b = ReadBuf::new();
    b.extend(b"aaaabbbb");
    let c = b.take(4);
    b.extend(b"cccc");
    assert_eq!((&*c, b.data()), (&b"aaaa"[..], &b"bbbbcccc"[..]));
}

#[test]
fn grows_and_shifts() {
    let mut b = ReadBuf::new();
    b.extend(&vec![1; BLOCK]);
    b.consume(10);
    b.extend(&[2; 10]);
    assert_eq!(b.len(), BLOCK);
    b.extend(&[3; 100]);
    assert_eq!(b.len(), BLOCK + 100);
    assert_eq!(b.data()[BLOCK + 99], 3);
    assert_eq!(b.data()[BLOCK - 1], 2);
}

#[test]
fn what_outgrows_a_block_is_read_in_few_pieces() {
    let mut b = ReadBuf::new();
    let (mut reads, mut copied) = (0, 0);
    while b.len() < 60_000 {
        let (before, len) = (b.block.as_ref().map(|b| b.0.len()), b.len());
        let n = b.space(1).len();
        copied += if b.block.as_ref().map(|b| b.0.len()) == before { 0 } else { len };
        b.filled(n);
        reads += 1;
    }
    assert!(reads <= 4 && copied <= 60_000, "{reads} reads, {copied} bytes copied");
}

#[test]
fn a_body_that_comes_fast_is_read_in_large_pieces() {
    let kept = || LARGE_BLOCKS.with(|p| p.borrow().len());
    let mut b = ReadBuf::new();
    let mut read = |most: usize| {
        let room = b.space(b.body_space()).len();
        b.filled(room.min(most));
        (room, b.take(room))
    };
    let (first, _) = read(usize::MAX);
    let (second, _) = read(BLOCK);
    assert_eq!((first, second), (BLOCK, LARGE_BLOCK), "the kernel may have had more than a block");
    let (third, _) = read(BLOCK - 1);
    let (fourth, _) = read(usize::MAX);
    assert_eq!((third, fourth), (LARGE_BLOCK, BLOCK), "a block was enough");
    assert_eq!(kept(), 1);
    let (_, chunk) = read(1);
    assert_eq!(kept(), 0);
    drop(chunk);
    assert_eq!(kept(), 1, "it is kept for the next one");
}

#[test]
fn chunk_cuts() {
    for mut c in [Chunk::from("abcdef"), Chunk::from(b"abcdef".to_vec())] {
        let h = c.split_to(2);
        assert_eq!((&*h, &*c), (&b"ab"[..], &b"cdef"[..]));
        c.advance(99);
        assert!(c.is_empty());
        assert_eq!(&h.into_bytes()[..], b"ab");
    }
}

#[test]
fn out_keeps_order_across_partial_writes() {
    let mut o = OutBuf::new();
    let big = vec![b'x'; COPY_UP_TO + 1];
    o.put(b"head ");
    o.chunk(Chunk::from("small "));
    o.chunk(Chunk::from(big.clone()));
    o.put(b"tail");
    let want = [&b"head small "[..], &big, b"tail"].concat();
    assert_eq!(o.len(), want.len());
    let mut got = Vec::new();
    while !o.is_empty() {
        let mut s = [IoSlice::new(&[]); 4];
        let n = o.slices(&mut s);
        let all: Vec<u8> = s[..n].iter().flat_map(|s| s.to_vec()).collect();
        let k = all.len().min(7);
        got.extend_from_slice(&all[..k]);
        o.advance(k);
    }
    assert_eq!(got, want);
    assert!(o.queue.is_empty() && o.front().is_empty());
}
