//! Every tensor type's WGSL dequantisation on this machine's adapter.

mod common;

#[test]
fn kernels_dequantise_every_type_as_gguf_does() {
    pollster::block_on(common::quant::kernels_dequantise_every_type_as_gguf_does(&common::gpu()));
}
