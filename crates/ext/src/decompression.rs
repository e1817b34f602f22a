//! Libraries that decompress: what stands in `decompressor_library`.

use crate::compression::Named;
use ::zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, InBuffer, Operation, OutBuffer};
use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use flate2::{Decompress, FlushDecompress, Status};
use nuncio_api::envoy::config::core::v3::TypedExtensionConfig;
use nuncio_api::envoy::extensions::compression::brotli::decompressor::v3 as pb_brotli;
use nuncio_api::envoy::extensions::compression::gzip::decompressor::v3 as pb_gzip;
use nuncio_api::envoy::extensions::compression::zstd::decompressor::v3 as pb_zstd;
use nuncio_core::coverage::Covered;
use nuncio_core::{BuildError, BuildResult, data_source};
use std::io;

/// What is read of the messages.
pub const COVERED: [Covered; 3] = [
    Covered::new(
        "envoy.extensions.compression.gzip.decompressor.v3.Gzip",
        &["window_bits", "max_inflate_ratio"],
    )
    .ignoring(&[("chunk_size", "size of the library's output buffer")]),
    Covered::new("envoy.extensions.compression.brotli.decompressor.v3.Brotli", &[]).ignoring(&[
        ("disable_ring_buffer_reallocation", "memory of the library"),
        ("chunk_size", "size of the library's output buffer"),
    ]),
    Covered::new("envoy.extensions.compression.zstd.decompressor.v3.Zstd", &["dictionaries"])
        .ignoring(&[("chunk_size", "size of the library's output buffer")]),
];

/// A way to decompress.
pub enum Library {
    /// gzip (RFC 1952): bits of the window, and how many times what comes in may come out.
    Gzip(u8, u64),
    /// Brotli (RFC 7932).
    Brotli,
    /// Zstandard (RFC 8878), with a dictionary or an empty one.
    Zstd(Vec<u8>),
}

/// zlib's own, and Envoy's `max_inflate_ratio`.
const WINDOW_BITS: u32 = 15;
const MAX_RATIO: u32 = 100;
/// RFC 8878 wants decoders to take windows of 8 MiB; a sender may not make us hold more.
const ZSTD_WINDOW_LOG: u32 = 23;

impl Library {
    /// From configuration.
    ///
    /// # Errors
    /// Envoy has no such library, or we have not.
    pub fn new(config: &TypedExtensionConfig) -> BuildResult<Library> {
        let named = Named::new(config, "envoy.compression.decompressor")?;
        if let Some(c) = named.read::<pb_gzip::Gzip>()? {
            let ratio = c.max_inflate_ratio.unwrap_or(MAX_RATIO);
            Ok(Library::Gzip(c.window_bits.unwrap_or(WINDOW_BITS) as u8, u64::from(ratio)))
        } else if named.read::<pb_brotli::Brotli>()?.is_some() {
            Ok(Library::Brotli)
        } else if let Some(c) = named.read::<pb_zstd::Zstd>()? {
            match &c.dictionaries[..] {
                [] => Ok(Library::Zstd(vec![])),
                [one] => data_source::read(one).map(Library::Zstd),
                _ => Err(BuildError::not_implemented("Zstd.dictionaries with more than one")),
            }
        } else {
            Err(named.unknown())
        }
    }
    /// What it is called in `content-encoding`.
    pub fn encoding(&self) -> &'static str {
        match self {
            Library::Gzip(..) => "gzip",
            Library::Brotli => "br",
            Library::Zstd(_) => "zstd",
        }
    }
    /// What it is called in names of stats.
    pub fn stats_name(&self) -> &'static str {
        match self {
            Library::Gzip(..) => "gzip",
            Library::Brotli => "brotli",
            Library::Zstd(_) => "zstd",
        }
    }
    /// Begins a stream.
    ///
    /// # Errors
    /// The library has no memory, or refuses its settings.
    pub fn decoder(&self) -> io::Result<Decoder> {
        Ok(match self {
            Library::Gzip(bits, ratio) => {
                let decoder = Box::new(Decompress::new_gzip(*bits));
                Decoder::Gzip { decoder, ratio: *ratio, over: false }
            }
            Library::Brotli => {
                let alloc = StandardAlloc::default;
                Decoder::Brotli(Box::new(BrotliState::new(alloc(), alloc(), alloc())), 0)
            }
            Library::Zstd(dictionary) => {
                let mut d = ZstdDecoder::with_dictionary(dictionary)?;
                d.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
                Decoder::Zstd(Box::new(d))
            }
        })
    }
}

/// A stream that is being decompressed.
pub enum Decoder {
    /// gzip.
    Gzip {
        /// The library.
        decoder: Box<Decompress>,
        /// `max_inflate_ratio`
        ratio: u64,
        /// The stream has ended; what follows is left aside, as Envoy does.
        over: bool,
    },
    /// Brotli, and how much came out.
    Brotli(Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>, usize),
    /// Zstandard.
    Zstd(Box<ZstdDecoder<'static>>),
}

/// The stream is broken, or grows more than it may.
#[derive(Debug)]
pub struct Broken;

/// What a ratio does not count for: small streams are allowed to grow.
const SMALL: u64 = 64 * 1024;

impl Decoder {
    /// Decompresses some of `input` into `out`: how many bytes it took and made. It has taken all there is to take when it
    /// leaves room in `out`.
    ///
    /// # Errors
    /// What comes in is broken, or a bomb.
    pub fn run(&mut self, input: &[u8], out: &mut [u8]) -> Result<(usize, usize), Broken> {
        match self {
            Decoder::Gzip { over: true, .. } => Ok((input.len(), 0)),
            Decoder::Gzip { decoder, ratio, over } => {
                let before = (decoder.total_in(), decoder.total_out());
                let status = decoder.decompress(input, out, FlushDecompress::None).map_err(|_| Broken)?;
                let after = (decoder.total_in(), decoder.total_out());
                if after.1 > SMALL && after.1 / *ratio > after.0 {
                    return Err(Broken);
                }
                *over = status == Status::StreamEnd;
                Ok(((after.0 - before.0) as usize, (after.1 - before.1) as usize))
            }
            Decoder::Brotli(state, total) => {
                let (mut available_in, mut at_in) = (input.len(), 0);
                let (mut available_out, mut at_out) = (out.len(), 0);
                let result = BrotliDecompressStream(
                    &mut available_in,
                    &mut at_in,
                    input,
                    &mut available_out,
                    &mut at_out,
                    out,
                    total,
                    state,
                );
                match result {
                    BrotliResult::ResultFailure => Err(Broken),
                    BrotliResult::ResultSuccess => Ok((input.len(), at_out)),
                    BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => Ok((at_in, at_out)),
                }
            }
            Decoder::Zstd(d) => {
                let mut from = InBuffer::around(input);
                let mut to = OutBuffer::around(out);
                d.run(&mut from, &mut to).map_err(|_| Broken)?;
                Ok((from.pos(), to.pos()))
            }
        }
    }
}
