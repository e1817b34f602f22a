fn main() {
    let mut args = std::env::args().skip(1);
    let path = args.next().expect("FILE");
    let options =
        nuncio_api::load::LoadOptions { path: Some(std::path::Path::new(&path)), ..Default::default() };
    match nuncio_api::load::load_bootstrap(&options) {
        Ok(_) => println!("OK"),
        Err(e) => println!("{}\n{}", e.envoy_phrase(), e),
    }
}
