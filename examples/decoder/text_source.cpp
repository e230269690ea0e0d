#include "text_source.hpp"

#include "error.hpp"
#include "one_line.hpp"
#include "output.hpp"

namespace decoder {

TextSource read_text(const Workbench& bench, const std::string& path, std::size_t tokens) {
  TextSource source;
  source.text = bench.tokenizer.encode(read_file(path), false);
  source.prompt = bench.tokenizer.encode_prompt("");
  if (source.prompt.empty() && !source.text.empty()) {
    source.prompt.push_back(source.text.front());
    source.text.erase(source.text.begin());
  }
  if (source.text.empty())
    throw Error(one_line(path) + ": holds less than two tokens: give a longer text");
  if (source.text.size() > tokens) source.text.resize(tokens);
  return source;
}

}  // namespace decoder
