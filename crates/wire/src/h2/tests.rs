//! Frames by hand against one connection (`script` is the language; `rules`, `heads`, `client`, `flow`, `floods`),
//! and both roles back to back (`pair`, `random`).

mod client;
mod floods;
mod flow;
mod heads;
mod pair;
mod random;
mod rules;
mod script;
