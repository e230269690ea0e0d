#include "commands.hpp"
#include "interrupt.hpp"
#include "program.hpp"

int main(int argc, char** argv) {
  decoder::watch_for_interrupt();
  cuda_decode::TimeOptions time;
  cuda_decode::GenerateOptions generate;
  cuda_decode::CheckOptions check;
  return decoder::run_program(
      argc, argv,
      {.name = "cuda_decode",
       .what = "Decodes on a CUDA device with a KV cache that lethe::cuda prunes.",
       .out_of_memory = "take a smaller context, batch or model"},
      [&](CLI::App& app, int& status) {
        decoder::add_command(app, "time",
                             "Time decode steps at the size of a real model: whole cache and Lethe",
                             time, &cuda_decode::timing, status);
        decoder::add_command(app, "generate", "Continue a text, or answer a prompt", generate,
                             &cuda_decode::generate, status);
        decoder::add_command(app, "check", "Compare the device with the CPU decoder", check,
                             &cuda_decode::check, status);
      });
}
