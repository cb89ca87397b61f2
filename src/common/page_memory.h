// Memory in whole blocks, from few large regions for which the system is asked for huge pages: what
// is written O_DIRECT from there is one piece for the device and not one for every 4 KiB, and fresh
// memory costs one page fault for 2 MiB. Thread-safe.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>

namespace datom {

class PageMemory {
 public:
  // That of the program; never destroyed.
  static PageMemory& shared();

  PageMemory() = default;
  // Everything taken was given back.
  ~PageMemory();
  PageMemory(const PageMemory&) = delete;
  PageMemory& operator=(const PageMemory&) = delete;

  // Aligned to 4 KiB, uninitialised. Throws std::bad_alloc. REQUIRES: a multiple of 4 KiB, not 0.
  std::byte* take(std::size_t bytes);
  // REQUIRES: taken with as many bytes.
  void give_back(std::byte* memory, std::size_t bytes);

  // Bytes of address space held.
  std::size_t mapped() const;

 private:
  struct Region {
    std::size_t bytes = 0;
    std::map<std::size_t, std::size_t> free{};  // length by offset; no two are neighbours
  };
  using Regions = std::map<std::byte*, Region>;  // by where they begin

  static std::byte* take_from(Regions::iterator region, std::size_t bytes);
  static bool is_unused(const Region& region);
  Regions::iterator add_region(std::size_t at_least);
  void drop_if_spare(Regions::iterator region);

  mutable std::mutex mutex_;
  Regions regions_;
};

}  // namespace datom
