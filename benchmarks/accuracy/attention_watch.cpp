#include "attention_watch.hpp"

#include <algorithm>

#include "onlooker.hpp"

namespace accuracy {
namespace {

/// Notes what attention looks at.
class Watch : public decoder::Onlooker {
 public:
  Watch(decoder::FutureLooks& looks, float least, std::size_t tokens)
      : Onlooker({.layers = looks.size(), .capacity = tokens}), looks_(&looks), least_(least) {}

  void reset() { seen_ = 0; }
  template <class Cache, class Trace>
  std::size_t make_room(Cache&, std::size_t tokens, const Trace&) {
    step_ = tokens;
    return 0;
  }

  void observe(std::size_t layer, const lethe::Probabilities<float>& seen) {
    for (std::size_t q = 0; q < seen.queries; ++q) {
      const std::size_t query = seen_ + seen.first_query + q;
      for (std::size_t token = 0; token < query; ++token) {
        const float mass = largest(seen, q, token);
        if (mass >= least_) {
          (*looks_)[layer][token].push_back({static_cast<std::uint32_t>(query), mass});
        }
      }
    }
  }

  void commit() { seen_ += step_; }

 private:
  [[nodiscard]] static float largest(const lethe::Probabilities<float>& seen, std::size_t query,
                                     std::size_t token) {
    float most = 0;
    for (std::size_t head = 0; head < seen.heads; ++head) {
      const float* row = seen.data + head * seen.head_stride + query * seen.query_stride;
      most = std::max(most, row[token]);
    }
    return most;
  }

  decoder::FutureLooks* looks_;
  float least_;
  std::size_t seen_ = 0;
  std::size_t step_ = 0;
};

/// The largest mass from each look on.
void look_ahead(std::vector<decoder::Look>& looks) {
  for (std::size_t i = looks.size(); i-- > 1;) {
    looks[i - 1].mass = std::max(looks[i - 1].mass, looks[i].mass);
  }
}

}  // namespace

decoder::FutureLooks watch_attention(decoder::Decoder& decoder, const decoder::ModelConfig& model,
                                     std::span<const Token> text, float least) {
  decoder::FutureLooks looks(model.layers, {text.size(), std::vector<decoder::Look>()});
  decoder::Sequence sequence{.cache = {model, decoder::CacheType::f32, text.size()},
                             .pruner = decoder::Pruner(Watch(looks, least, text.size()))};
  (void)decoder.prefill(sequence, text);
  for (auto& layer : looks) {
    for (auto& token : layer) look_ahead(token);
  }
  return looks;
}

}  // namespace accuracy
