/// A Backend over any device.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "device.hpp"
#include "device_model.hpp"
#include "engine.hpp"
#include "fill_kernels.cuh"
#include "numbers.cuh"
#include "stepper.hpp"

namespace cuda_decode {

template <Device D, class Numbers>
class LoadedModelOn final : public LoadedModel {
 public:
  LoadedModelOn(D& device, const ModelSource& source)
      : device_(device), model_(device, source), counted_(counter_, source) {}

  [[nodiscard]] std::size_t bytes(const StepperSettings& settings) const override {
    CountingDevice counter(device_.processors());
    const Engine<CountingDevice, Numbers> engine(counter, counted_, settings);
    return counter.bytes();
  }
  [[nodiscard]] std::unique_ptr<Stepper> make(const StepperSettings& settings) override {
    return std::make_unique<Engine<D, Numbers>>(device_, model_, settings);
  }

 private:
  D& device_;
  DeviceModel<D, typename Numbers::Weight> model_;
  CountingDevice counter_{1};
  DeviceModel<CountingDevice, typename Numbers::Weight> counted_;
};

template <Device D, class Numbers>
class BackendOn final : public Backend {
 public:
  explicit BackendOn(D device) : device_(std::move(device)) {}

  [[nodiscard]] std::string description() const override { return device_.description(); }
  [[nodiscard]] std::size_t free_bytes() const override { return device_.free_bytes(); }
  [[nodiscard]] std::size_t weight_bytes() const override {
    return sizeof(typename Numbers::Weight);
  }
  [[nodiscard]] std::size_t cached_bytes() const override {
    return sizeof(typename Numbers::Cached);
  }

  [[nodiscard]] double bytes_per_second() override {
    // Far more than any cache holds, where there is so much.
    const std::size_t bytes = std::min<std::size_t>(std::size_t{1} << 32, device_.free_bytes() / 4);
    Pieces<D> pieces(device_);
    const ReadMemory read{.from = pieces.template take<Octet>(bytes / sizeof(Octet)),
                          .octets = bytes / sizeof(Octet),
                          .found = pieces.template take<std::uint32_t>(1)};
    double best = 0;
    for (int turn = 0; turn < 8; ++turn) {
      device_.start_clock();
      device_.launch(read, {ReadMemory::blocks});
      best = std::max(best, static_cast<double>(bytes) / device_.stop_clock());
    }
    return best;
  }

  [[nodiscard]] std::size_t bytes(const ModelSource& source) const override {
    CountingDevice counter(1);
    const DeviceModel<CountingDevice, typename Numbers::Weight> model(counter, source);
    return counter.bytes();
  }
  [[nodiscard]] std::unique_ptr<LoadedModel> load(const ModelSource& source) override {
    return std::make_unique<LoadedModelOn<D, Numbers>>(device_, source);
  }

 private:
  D device_;
};

}  // namespace cuda_decode
