// What both implementations check before a call is sent, and how they word what a step is.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "coordination/client.h"

namespace datom::coordination {

// "/" or "/a/b": printable ASCII, no empty, "." or ".." component, at most kMaxPath bytes. Throws
// Error{invalid_argument} or Error{too_large}.
void check_path(std::string_view path);
// Path and size of what a write does. Throws as check_path.
void check_step(const Create& step);
void check_step(const Set& step);
void check_step(const Delete& step);
void check_step(const Check& step);
// Each step, their number, and the size of all.
void check_operations(const std::vector<Operation>& operations);

const std::string& path_of(const Operation& operation);
// "create /a/b"
std::string describe(const Operation& operation);
// Of "/a/b": "/a"; of "/a": "/". REQUIRES: a checked path, not "/".
std::string parent_of(std::string_view path);

}  // namespace datom::coordination
