//! Noise without state: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), a hash
//! of a counter under a key. The key is the seed and the counter holds position and token id, so that a draw depends
//! on these three alone. All of it is 32-bit arithmetic, which WGSL has too.

use std::f32::consts::LN_2;

/// A number in (0, 1) for this seed, position and token id. It has the 24 leading bits of a 32-bit draw, so that it is
/// exact, finely spaced near 0, and never 1.
pub fn uniform(seed: u64, position: u32, token: u32) -> f32 {
    to_uniform(Noise::new(seed, position).bits(token))
}

/// A standard Gumbel draw for this seed, position and token id. The token with the largest `logit + gumbel` is a
/// sample of the logits' softmax.
pub fn gumbel(seed: u64, position: u32, token: u32) -> f32 {
    to_gumbel(Noise::new(seed, position).bits(token))
}

/// The seed of request number `index` that brings none, under an engine's seed. The counter's third word keeps it apart
/// from the draws of rows.
pub fn request_seed(engine_seed: u64, index: u64) -> u64 {
    let key = [engine_seed as u32, (engine_seed >> 32) as u32];
    let words = philox([index as u32, (index >> 32) as u32, 1, 0], key);
    u64::from(words[0]) | u64::from(words[1]) << 32
}

/// The draws of one row. Each Philox block serves four neighbouring token ids; the last one is kept.
pub(super) struct Noise {
    key: [u32; 2],
    position: u32,
    block: u32,
    words: [u32; 4],
}

impl Noise {
    pub(super) fn new(seed: u64, position: u32) -> Self {
        let key = [seed as u32, (seed >> 32) as u32];
        Self { key, position, block: 0, words: philox([0, position, 0, 0], key) }
    }

    /// The 32 random bits of a token.
    pub(super) fn bits(&mut self, token: u32) -> u32 {
        if self.block != token / 4 {
            self.block = token / 4;
            self.words = philox([self.block, self.position, 0, 0], self.key);
        }
        self.words[(token % 4) as usize]
    }
}

fn to_uniform(bits: u32) -> f32 {
    let leading = bits & !(0xff_u32 >> bits.leading_zeros().min(8));
    (leading as f32).max(0.5) * 2f32.powi(-32)
}

/// The Gumbel draw of these bits: `-ln(-ln(1 - u))`. Large draws come from small `u`, where the spacing is finest, so
/// that rare tokens keep their probability.
pub(super) fn to_gumbel(bits: u32) -> f32 {
    -(-(-to_uniform(bits)).ln_1p()).ln()
}

/// An upper bound of [`to_gumbel`] that needs no logarithm: `-ln(1 - u) >= u >= 2^-(z + 1)` for z leading zeros. The
/// slack covers the rounding of the logarithms.
pub(super) fn gumbel_bound(bits: u32) -> f32 {
    (bits.leading_zeros() + 1) as f32 * LN_2 + 1e-4
}

/// Philox4x32 with ten rounds.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
    const KEY_STEPS: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
    for _ in 0..10 {
        let (low0, high0) = MULTIPLIERS[0].carrying_mul(counter[0], 0);
        let (low1, high1) = MULTIPLIERS[1].carrying_mul(counter[2], 0);
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0];
        key = [key[0].wrapping_add(KEY_STEPS[0]), key[1].wrapping_add(KEY_STEPS[1])];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_without_a_seed_get_different_ones() {
        let mut seeds: Vec<u64> = (0..4).flat_map(|engine| (0..250).map(move |i| request_seed(engine, i))).collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 1000);
    }

    #[test]
    fn philox_gives_the_known_answers_of_its_authors() {
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        for (counter, key, answer) in [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (pi, [0xa409_3822, 0x299f_31d0], [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]),
        ] {
            assert_eq!(philox(counter, key), answer);
        }
    }

    #[test]
    fn the_draw_of_a_triple_never_changes() {
        // Recorded once: other values would change every seeded output of every page.
        assert_eq!(Noise::new(0, 0).bits(0), 0x6627_e8d5);
        assert_eq!(Noise::new(0, 0).bits(3), 0x9b00_dbd8);
        assert_eq!(uniform(0, 0, 0), 0x6627_e880_u32 as f32 / 2f32.powi(32));
    }

    #[test]
    fn every_part_of_the_triple_matters() {
        let base = uniform(1, 2, 3);
        for other in
            [uniform(2, 2, 3), uniform(1 | 1 << 32, 2, 3), uniform(1, 3, 3), uniform(1, 2, 4), uniform(1, 2, 7)]
        {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn the_ends_stay_inside_the_open_interval() {
        assert_eq!(to_uniform(0), 2f32.powi(-33));
        assert_eq!(to_uniform(1), 2f32.powi(-32));
        assert_eq!(to_uniform(u32::MAX), 1.0 - 2f32.powi(-24));
        assert!(to_gumbel(0).is_finite() && to_gumbel(u32::MAX).is_finite());
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let n = 200_000;
        let mean = |draw: fn(u64, u32, u32) -> f32| {
            let draws = (0..n).map(|i| f64::from(draw(11, i / 1000, i % 1000)));
            let (sum, squares) = draws.fold((0.0, 0.0), |(s, q), x| (s + x, q + x * x));
            let mean = sum / f64::from(n);
            (mean, squares / f64::from(n) - mean * mean)
        };
        let (u, u_variance) = mean(uniform);
        assert!((u - 0.5).abs() < 3e-3 && (u_variance - 1.0 / 12.0).abs() < 1e-3, "{u} {u_variance}");
        let (g, g_variance) = mean(gumbel);
        assert!((g - 0.577_216).abs() < 0.012 && (g_variance - 1.644_934).abs() < 0.04, "{g} {g_variance}");
    }

    proptest! {
        #[test]
        fn the_bound_is_a_bound(bits: u32, shift in 0u32..32) {
            let bits = bits >> shift;
            prop_assert!((0.0..1.0).contains(&to_uniform(bits)) && to_uniform(bits) > 0.0);
            prop_assert!(to_gumbel(bits) <= gumbel_bound(bits));
        }
    }

    #[test]
    fn a_block_serves_its_four_tokens_in_any_order() {
        let mut noise = Noise::new(5, 6);
        let forward: Vec<u32> = (0..64).map(|t| noise.bits(t)).collect();
        for token in (0..64).rev() {
            assert_eq!(noise.bits(token), forward[token as usize]);
        }
    }
}
