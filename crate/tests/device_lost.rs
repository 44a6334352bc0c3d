//! A device that goes away in the middle: the step says so, and each request is counted once, as failed.

mod common;

use common::{counter, gpu, params, tiny, tokens};
use embergram::ErrorCode;
use serde_json::json;

#[test]
fn a_lost_device_fails_every_request_once() {
    let mut llm = tiny(json!({ "max_model_len": 64, "max_num_seqs": 2, "seed": 1 }));
    let params = params(json!({ "max_tokens": 20, "ignore_eos": true, "n": 2 }));
    let ids: Vec<u64> = (0..2).flat_map(|i| llm.add(&tokens(&[300 + i, 301, 302]), &params).unwrap()).collect();
    pollster::block_on(llm.step()).unwrap();
    llm.abort(ids[0]).unwrap();
    let generated = counter(&llm, "vllm:generation_tokens", None);
    assert_eq!(generated, 2);

    gpu().device.destroy();
    let error = pollster::block_on(llm.step()).unwrap_err();
    assert_eq!(error.code, ErrorCode::DeviceLost, "{error}");
    assert!(!llm.is_busy());
    let finished = ["stop", "length", "abort", "error"].map(|r| counter(&llm, "vllm:request_success", Some(r)));
    assert_eq!(finished, [0, 0, 1, 3], "one that was running, two that waited");
    assert_eq!(common::metric(&llm, "vllm:request_params_n", None)["count"], 2);
    assert_eq!(common::metric(&llm, "vllm:kv_cache_usage_perc", None)["value"], 0.0);
    assert_eq!(counter(&llm, "vllm:generation_tokens", None), generated);
    assert!(ids.iter().all(|id| llm.abort(*id).is_none()));
}
