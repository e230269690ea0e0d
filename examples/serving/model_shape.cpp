#include "model_shape.hpp"

#include <array>

#include "error.hpp"
#include "one_line.hpp"

namespace serving {
namespace {

const std::array<ModelShape, 2>& models() {
  static const std::array<ModelShape, 2> known{
      ModelShape{"llama-3.1-8b", 32, 4096, 32, 8, 128, 14336, 128256, 2},
      ModelShape{"llama-3.1-70b", 80, 8192, 64, 8, 128, 28672, 128256, 2}};
  return known;
}

}  // namespace

std::string model_list() {
  std::string names;
  for (const ModelShape& model : models()) names += (names.empty() ? "" : ", ") + model.name;
  return names;
}

ModelShape model_shape(const std::string& name) {
  for (const ModelShape& model : models())
    if (model.name == name) return model;
  throw decoder::Error("there is no model " + decoder::one_line(name) + ": take one of " +
                       model_list());
}

}  // namespace serving
