#include "file_mapping.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "error.hpp"
#include "one_line.hpp"

namespace decoder {
namespace {

/// Closes a file descriptor at the end of its scope.
class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  int get() const noexcept { return value_; }

 private:
  int value_;
};

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& message) {
  throw Error(one_line(path.string()) + ": " + message);
}

[[noreturn]] void fail_with_errno(const std::filesystem::path& path, const char* action) {
  fail(path, std::string("cannot ") + action + " it: " + std::strerror(errno) +
                 "; check the path and its permissions");
}

std::size_t regular_file_size(const std::filesystem::path& path, int descriptor) {
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) fail_with_errno(path, "inspect");
  if (S_ISDIR(status.st_mode)) fail(path, "is a directory; name the file inside it");
  if (!S_ISREG(status.st_mode)) fail(path, "is not a regular file");
  if (status.st_size == 0) fail(path, "is empty");
  return static_cast<std::size_t>(status.st_size);
}

}  // namespace

FileMapping::FileMapping(const std::filesystem::path& path) {
  // Non-blocking, or a named pipe would keep us waiting for a writer before it is refused.
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) fail_with_errno(path, "open");
  size_ = regular_file_size(path, file.get());
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (address == MAP_FAILED) fail_with_errno(path, "map");
  data_ = static_cast<const std::byte*>(address);
  is_mapped_ = true;
}

FileMapping::FileMapping(FileMapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      is_mapped_(std::exchange(other.is_mapped_, false)) {}

FileMapping& FileMapping::operator=(FileMapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(is_mapped_, other.is_mapped_);
  return *this;
}

FileMapping::~FileMapping() {
  if (is_mapped_) ::munmap(const_cast<std::byte*>(data_), size_);
}

}  // namespace decoder
