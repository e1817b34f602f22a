//! Libraries that compress: what stands in `compressor_library`.

use ::zstd::stream::raw::CParameter;
use ::zstd::zstd_safe::Strategy;
use flate2::Compression;
use flate2::GzBuilder;
use flate2::write::GzEncoder;
use nuncio_api::envoy::config::core::v3::TypedExtensionConfig;
use nuncio_api::envoy::extensions::compression::brotli::compressor::v3 as pb_brotli;
use nuncio_api::envoy::extensions::compression::gzip::compressor::v3 as pb_gzip;
use nuncio_api::envoy::extensions::compression::zstd::compressor::v3 as pb_zstd;
use nuncio_api::extensions::{self, Origin};
use nuncio_core::coverage::Covered;
use nuncio_core::{BuildError, BuildResult, data_source};
use prost::{Message, Name};
use std::io::{self, Write};

/// What is read of the messages. What is left aside trades memory for ratio inside the library: the stream that comes
/// out has the same format.
pub const COVERED: [Covered; 3] = [
    Covered::new("envoy.extensions.compression.gzip.compressor.v3.Gzip", &["compression_level"]).ignoring(&[
        ("memory_level", "memory of the library"),
        ("compression_strategy", "a hint to the library"),
        ("window_bits", "memory of the library; every decoder of gzip has a window of 15 bits"),
        ("chunk_size", "size of the library's output buffer"),
    ]),
    Covered::new(
        "envoy.extensions.compression.brotli.compressor.v3.Brotli",
        &["quality", "encoder_mode", "window_bits", "input_block_bits"],
    )
    .ignoring(&[
        ("chunk_size", "size of the library's output buffer"),
        ("disable_literal_context_modeling", "a hint to the library"),
    ]),
    Covered::new(
        "envoy.extensions.compression.zstd.compressor.v3.Zstd",
        &["compression_level", "enable_checksum", "strategy", "dictionary"],
    )
    .ignoring(&[("chunk_size", "size of the library's output buffer")]),
];

/// A library that a filter names, for one direction or the other.
pub struct Named<'a> {
    name: &'a str,
    any: &'a prost_types::Any,
    /// Full name of its message.
    ty: &'a str,
    /// Envoy's category.
    category: &'static str,
}

impl<'a> Named<'a> {
    /// The library of `config`.
    ///
    /// # Errors
    /// None is named.
    pub fn new(config: &'a TypedExtensionConfig, category: &'static str) -> BuildResult<Named<'a>> {
        let any = config.typed_config.as_ref().ok_or("field: \"typed_config\", reason: is required")?;
        let ty = any.type_url.rsplit('/').next().unwrap_or_default();
        Ok(Named { name: &config.name, any, ty, category })
    }
    /// Its configuration, when that is an `M`.
    ///
    /// # Errors
    /// It does not decode.
    pub fn read<M: Message + Name + Default>(&self) -> BuildResult<Option<M>> {
        let read = (self.ty == M::full_name()).then(|| M::decode(&*self.any.value));
        read.transpose().map_err(|e| BuildError(e.to_string()))
    }
    /// Why there is no such library.
    pub fn unknown(&self) -> BuildError {
        let Named { name, ty, category, .. } = self;
        match extensions::find(category, ty).is_some_and(|e| e.origin == Origin::Core) {
            true => BuildError::not_implemented(format_args!("{name} ({ty})")),
            false => BuildError(format!("Didn't find a registered implementation for type: '{ty}'")),
        }
    }
}

/// A way to compress.
pub enum Library {
    /// gzip (RFC 1952).
    Gzip(Compression),
    /// Brotli (RFC 7932).
    Brotli(Box<brotli::enc::BrotliEncoderParams>),
    /// Zstandard (RFC 8878).
    Zstd(Zstd),
}

/// Settings of Zstandard.
pub struct Zstd {
    level: i32,
    checksum: bool,
    strategy: Option<Strategy>,
    dictionary: Vec<u8>,
}

/// Brotli's and Envoy's defaults.
const BROTLI_QUALITY: u32 = 3;
const BROTLI_WINDOW: u32 = 18;
const BROTLI_BLOCK: u32 = 24;
const ZSTD_LEVEL: u32 = 3;

/// Room for the input of Brotli.
const BUFFER: usize = 4096;

impl Library {
    /// From configuration.
    ///
    /// # Errors
    /// Envoy has no such library, or we have not.
    pub fn new(config: &TypedExtensionConfig) -> BuildResult<Library> {
        let named = Named::new(config, "envoy.compression.compressor")?;
        if let Some(c) = named.read::<pb_gzip::Gzip>()? {
            let level = u32::try_from(c.compression_level).unwrap_or(0);
            Ok(Library::Gzip(if level == 0 {
                Compression::default()
            } else {
                Compression::new(level.min(9))
            }))
        } else if let Some(c) = named.read::<pb_brotli::Brotli>()? {
            Ok(Library::Brotli(Box::new(of_brotli(&c))))
        } else if let Some(c) = named.read::<pb_zstd::Zstd>()? {
            of_zstd(&c).map(Library::Zstd)
        } else {
            Err(named.unknown())
        }
    }
    /// What it is called in `content-encoding`.
    pub fn encoding(&self) -> &'static str {
        match self {
            Library::Gzip(_) => "gzip",
            Library::Brotli(_) => "br",
            Library::Zstd(_) => "zstd",
        }
    }
    /// What it is called in names of stats.
    pub fn stats_name(&self) -> &'static str {
        match self {
            Library::Gzip(_) => "gzip",
            Library::Brotli(_) => "brotli",
            Library::Zstd(_) => "zstd",
        }
    }
    /// Begins a stream.
    ///
    /// # Errors
    /// The library has no memory, or refuses its settings.
    pub fn encoder(&self) -> io::Result<Encoder> {
        Ok(Encoder(Some(match self {
            Library::Gzip(level) => {
                Kind::Gzip(Box::new(GzBuilder::new().operating_system(UNIX).write(vec![], *level)))
            }
            Library::Brotli(params) => {
                Kind::Brotli(Box::new(brotli::CompressorWriter::with_params(vec![], BUFFER, params)))
            }
            Library::Zstd(z) => {
                let mut e = ::zstd::Encoder::with_dictionary(vec![], z.level, &z.dictionary)?;
                e.include_checksum(z.checksum)?;
                if let Some(s) = z.strategy {
                    e.set_parameter(CParameter::Strategy(s))?;
                }
                Kind::Zstd(Box::new(e))
            }
        })))
    }
}

fn of_brotli(c: &pb_brotli::Brotli) -> brotli::enc::BrotliEncoderParams {
    use brotli::enc::backward_references::BrotliEncoderMode as Mode;
    use pb_brotli::brotli::EncoderMode;
    brotli::enc::BrotliEncoderParams {
        quality: c.quality.unwrap_or(BROTLI_QUALITY) as i32,
        lgwin: c.window_bits.unwrap_or(BROTLI_WINDOW) as i32,
        lgblock: c.input_block_bits.unwrap_or(BROTLI_BLOCK) as i32,
        mode: match c.encoder_mode() {
            EncoderMode::Default | EncoderMode::Generic => Mode::BROTLI_MODE_GENERIC,
            EncoderMode::Text => Mode::BROTLI_MODE_TEXT,
            EncoderMode::Font => Mode::BROTLI_MODE_FONT,
        },
        ..Default::default()
    }
}

fn of_zstd(c: &pb_zstd::Zstd) -> BuildResult<Zstd> {
    use pb_zstd::zstd::Strategy as S;
    Ok(Zstd {
        level: i32::try_from(c.compression_level.unwrap_or(ZSTD_LEVEL)).unwrap_or(i32::MAX),
        checksum: c.enable_checksum,
        strategy: match c.strategy() {
            S::Default => None,
            S::Fast => Some(Strategy::ZSTD_fast),
            S::Dfast => Some(Strategy::ZSTD_dfast),
            S::Greedy => Some(Strategy::ZSTD_greedy),
            S::Lazy => Some(Strategy::ZSTD_lazy),
            S::Lazy2 => Some(Strategy::ZSTD_lazy2),
            S::Btlazy2 => Some(Strategy::ZSTD_btlazy2),
            S::Btopt => Some(Strategy::ZSTD_btopt),
            S::Btultra => Some(Strategy::ZSTD_btultra),
            S::Btultra2 => Some(Strategy::ZSTD_btultra2),
        },
        dictionary: c.dictionary.as_ref().map(data_source::read).transpose()?.unwrap_or_default(),
    })
}

enum Kind {
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(Box<::zstd::Encoder<'static, Vec<u8>>>),
}

/// Operating system in a gzip member's header (RFC 1952 §2.3): what zlib says wherever Envoy runs.
const UNIX: u8 = 3;

/// A stream that is being compressed; nothing is left of it after its end.
pub struct Encoder(Option<Kind>);

impl Encoder {
    /// Compresses more, so that a decoder can read all of it at once (a flush).
    ///
    /// # Errors
    /// The library has no memory.
    pub fn more(&mut self, data: &[u8]) -> io::Result<Vec<u8>> {
        match &mut self.0 {
            None => Ok(vec![]),
            Some(Kind::Gzip(e)) => {
                e.write_all(data)?;
                e.flush()?;
                Ok(std::mem::take(e.get_mut()))
            }
            Some(Kind::Brotli(e)) => {
                e.write_all(data)?;
                e.flush()?;
                Ok(std::mem::take(e.get_mut()))
            }
            Some(Kind::Zstd(e)) => {
                e.write_all(data)?;
                e.flush()?;
                Ok(std::mem::take(e.get_mut()))
            }
        }
    }
    /// Compresses the last of it, and ends the stream.
    ///
    /// # Errors
    /// The library has no memory.
    pub fn end(&mut self, data: &[u8]) -> io::Result<Vec<u8>> {
        match self.0.take() {
            None => Ok(vec![]),
            Some(Kind::Gzip(mut e)) => {
                e.write_all(data)?;
                e.finish()
            }
            Some(Kind::Brotli(mut e)) => {
                e.write_all(data)?;
                Ok(e.into_inner())
            }
            Some(Kind::Zstd(mut e)) => {
                e.write_all(data)?;
                e.finish()
            }
        }
    }
}
