#pragma once

#include <string>

#include "files.hpp"

namespace serving::test {

/// Tables of a machine that takes 1 us a token for each of its 258 operations (32 layers of eight,
/// norms counted twice, the embedding and the last norm), and 100 us of attention a layer for each
/// sequence that decodes.
inline void write_tables(const Folder& folder, const std::string& name) {
  std::string dense = "layer,tokens,time_us\n";
  for (const char* operation : {"embedding", "layernorm", "qkv_proj", "rotary_emb", "o_proj",
                                "gate_up_proj", "act_fn", "down_proj", "final_layernorm"})
    dense += std::string(operation) + ",1,1\n" + operation + ",2048,2048\n";
  folder.write(name + "/dense.csv", dense);
  folder.write(name + "/per_sequence.csv",
               "layer,sequences,time_us\nlm_head,1,0\nlm_head,256,0\nsampler,1,0\nsampler,256,0\n");
  folder.write(name + "/attention.csv",
               "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us\n"
               "0,0,1,16,100\n0,0,1,1024,100\n16,0,0,0,0\n16,1024,0,0,0\n");
}

}  // namespace serving::test
