// Whether a sanitizer watches memory: then none is kept for reuse, so that a use after free is
// seen.
#pragma once

namespace datom {

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
inline constexpr bool kIsAddressSanitized = true;
#else
inline constexpr bool kIsAddressSanitized = false;
#endif
#elif defined(__SANITIZE_ADDRESS__)
inline constexpr bool kIsAddressSanitized = true;
#else
inline constexpr bool kIsAddressSanitized = false;
#endif

}  // namespace datom
