// libFuzzer's entry points. `fuzz_TARGET --seeds DIRECTORY` writes the seeds there and ends.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "fuzz/target.h"

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  if (*argc != 3 || std::string_view((*argv)[1]) != "--seeds") return 0;
  const std::filesystem::path directory = (*argv)[2];
  std::filesystem::create_directories(directory);
  for (const auto& [name, bytes] : datom::fuzz::seeds()) {
    std::ofstream(directory / name, std::ios::binary) << bytes;
  }
  std::exit(0);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  datom::fuzz::run({reinterpret_cast<const std::byte*>(data), size});
  return 0;
}
