//! Configuration: plain structs, defaults, validation, generated reference and example.
