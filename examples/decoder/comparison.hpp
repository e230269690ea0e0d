#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "conversation.hpp"
#include "options.hpp"
#include "run.hpp"
#include "teacher.hpp"
#include "workbench.hpp"

namespace decoder {

/// The main job: one text through the whole cache and through pruned ones.
class Comparison {
 public:
  /// Checks all that can be checked before the long part.
  /// @throws Error, std::invalid_argument
  Comparison(Workbench& bench, const CompareOptions& options);

  /// Decodes with each cache alone, in turns of a few tokens so that noise meets all alike; the
  /// whole cache's own text becomes the text compared on, unless a file was given.
  void decode();

  /// Compares every prediction on that text, by teacher forcing.
  void follow();

  /// All results so far, as --json writes them and the report reads them.
  nlohmann::json results() const;

 private:
  PolicyChoice choose(const std::string& policy) const;
  void take_file();
  void warm_up();
  std::string source() const;
  nlohmann::json run_results(std::size_t index) const;
  nlohmann::json written(std::size_t index) const;
  nlohmann::json settings() const;
  nlohmann::json weaknesses() const;

  Workbench& bench_;
  const CompareOptions& options_;
  std::vector<std::string> policies_;  ///< "none" first
  Conversation talk_;
  std::vector<std::int32_t> prompt_;
  std::vector<std::int32_t> given_;  ///< the file's tokens; empty without a file
  std::size_t tokens_ = 0;           ///< tokens to compare on
  std::vector<std::unique_ptr<Run>> runs_;
  std::unique_ptr<TeacherForcing> teacher_;
};

}  // namespace decoder
