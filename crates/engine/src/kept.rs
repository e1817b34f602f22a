//! Configuration that is kept after it has been built, for `/config_dump` and to see whether an update changes anything.
//! Decoded messages of 10,000 clusters weigh ten times what their bytes do, and nobody reads them until somebody asks.

use bytes::Bytes;
use nuncio_core::error::{BuildError, BuildResult};
use prost::Message;
use std::cell::RefCell;
use std::marker::PhantomData;

/// A message as its bytes.
#[derive(Clone)]
pub struct Kept<M> {
    bytes: RefCell<Bytes>,
    message: PhantomData<fn() -> M>,
}

impl<M: Message + Default + PartialEq> Kept<M> {
    /// Encodes it.
    pub fn new(message: &M) -> Kept<M> {
        Kept { bytes: RefCell::new(message.encode_to_vec().into()), message: PhantomData }
    }
    /// A message that is encoded already, and the message.
    ///
    /// # Errors
    /// The bytes are no such message.
    pub fn encoded(bytes: Bytes) -> BuildResult<(Kept<M>, M)> {
        let message = M::decode(&*bytes).map_err(|e| BuildError(format!("Unable to parse protobuf: {e}")))?;
        Ok((Kept { bytes: RefCell::new(bytes), message: PhantomData }, message))
    }
    /// The message.
    pub fn get(&self) -> M {
        // These bytes were encoded or decoded here; if they did not decode, there would be nothing to show.
        M::decode(&**self.bytes.borrow()).unwrap_or_default()
    }
    /// Whether another message says the same.
    pub fn same(&self, other: &M) -> bool {
        self.get() == *other
    }
    /// Whether these are its bytes.
    pub fn is(&self, bytes: &Bytes) -> bool {
        *self.bytes.borrow() == *bytes
    }
    /// Keeps the same message from now on in the bytes of another one, which are part of a newer file: the memory of the
    /// older file is no longer needed.
    pub fn renew(&self, other: Kept<M>) {
        self.bytes.swap(&other.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_api::envoy::config::cluster::v3::Cluster;

    #[test]
    fn what_is_kept_comes_back() {
        let cluster = Cluster { name: "a".into(), ..Default::default() };
        let kept = Kept::new(&cluster);
        assert_eq!(kept.get(), cluster);
        assert!(kept.same(&cluster));
        assert!(!kept.same(&Cluster { name: "b".into(), ..Default::default() }));
        let (again, decoded) = Kept::<Cluster>::encoded(cluster.encode_to_vec().into()).expect("well-formed");
        assert!(kept.is(&cluster.encode_to_vec().into()));
        assert_eq!((again.get(), decoded), (cluster.clone(), cluster));
        kept.renew(again.clone());
        assert_eq!(kept.bytes.borrow().as_ptr(), again.bytes.borrow().as_ptr());
        assert!(Kept::<Cluster>::encoded(Bytes::from_static(&[0x0a, 9])).is_err());
    }
}
