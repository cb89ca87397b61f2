// Counts what a program allocates and copies: preloaded into it by `./dev bench --budget`
// (LD_PRELOAD). The counters of process PID are the file PID in the folder that DATOM_COUNTING
// names, mapped into memory, so that they can be read while it runs.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>

// glibc's own, under the names that it exports beside the ones that are taken here.
extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* memory, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);
}

namespace {

constexpr std::size_t kLarge = 1024;  // copies below are not of payload

// In the order in which budget.py reads them.
struct Counters {
  std::atomic<std::uint64_t> allocations;
  std::atomic<std::uint64_t> allocated_bytes;
  std::atomic<std::uint64_t> large_copies;
  std::atomic<std::uint64_t> large_copied_bytes;
  std::atomic<std::uint64_t> large_cleared_bytes;
};

Counters before_mapping;
std::atomic<Counters*> counters = &before_mapping;

__attribute__((constructor)) void map_counters() {
  const char* folder = getenv("DATOM_COUNTING");
  if (folder == nullptr) return;
  char path[4096];
  snprintf(path, sizeof path, "%s/%d", folder, static_cast<int>(getpid()));
  const int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (file < 0) return;
  if (ftruncate(file, sizeof(Counters)) == 0) {
    void* mapped = mmap(nullptr, sizeof(Counters), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) counters = static_cast<Counters*>(mapped);
  }
  close(file);
}

void add(std::atomic<std::uint64_t>& counter, std::uint64_t amount) {
  counter.fetch_add(amount, std::memory_order_relaxed);
}

void allocated(std::size_t size) {
  Counters& now = *counters.load(std::memory_order_relaxed);
  add(now.allocations, 1);
  add(now.allocated_bytes, size);
}

void copied(std::size_t size) {
  if (size < kLarge) return;
  Counters& now = *counters.load(std::memory_order_relaxed);
  add(now.large_copies, 1);
  add(now.large_copied_bytes, size);
}

}  // namespace

extern "C" {

void* malloc(std::size_t size) {
  allocated(size);
  return __libc_malloc(size);
}

void* calloc(std::size_t count, std::size_t size) {
  allocated(count * size);
  return __libc_calloc(count, size);
}

void* realloc(void* memory, std::size_t size) {
  allocated(size);
  return __libc_realloc(memory, size);
}

void* memalign(std::size_t alignment, std::size_t size) {
  allocated(size);
  return __libc_memalign(alignment, size);
}

void* aligned_alloc(std::size_t alignment, std::size_t size) {
  return memalign(alignment, size);
}

int posix_memalign(void** memory, std::size_t alignment, std::size_t size) {
  *memory = memalign(alignment, size);
  return *memory == nullptr ? ENOMEM : 0;
}

// By one instruction: a loop would be made a call of the function that it is in.
void* memcpy(void* __restrict to, const void* __restrict from, std::size_t size) {
  copied(size);
  void* at = to;
  asm volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(size) : : "memory");
  return to;
}

void* memmove(void* to, const void* from, std::size_t size) {
  copied(size);
  auto* target = static_cast<char*>(to);
  const auto* source = static_cast<const char*>(from);
  if (target <= source || target >= source + size) {
    asm volatile("rep movsb" : "+D"(target), "+S"(source), "+c"(size) : : "memory");
  } else {
    target += size - 1;
    source += size - 1;
    asm volatile("std; rep movsb; cld" : "+D"(target), "+S"(source), "+c"(size) : : "memory");
  }
  return to;
}

void* memset(void* to, int value, std::size_t size) {
  if (size >= kLarge) add(counters.load(std::memory_order_relaxed)->large_cleared_bytes, size);
  void* at = to;
  asm volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(value) : "memory");
  return to;
}

}  // extern "C"
