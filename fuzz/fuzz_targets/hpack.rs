#![cfg_attr(fuzzing, no_main)]
nuncio_fuzz::target!(hpack);
