#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace serving::test {

/// A folder of its own for a test's files.
class Folder {
 public:
  Folder()
      : path_(std::filesystem::temp_directory_path() /
              ("lethe_serving_" + std::to_string(getpid()))) {
    std::filesystem::create_directories(path_);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  std::string path(const std::string& name) const { return (path_ / name).string(); }
  std::string write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name, std::ios::binary) << text;
    return path(name);
  }

 private:
  std::filesystem::path path_;
};

}  // namespace serving::test
