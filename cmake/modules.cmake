# datom_module(NAME [DEPENDS room...] [LIBS library...])
#
# One room of the house: every *.cc of the folder becomes the static library datom_NAME, every
# *_test.cc the program NAME_test. DEPENDS lists the rooms whose headers this one may include;
# tools/check_layers reads the same line and fails on an include that is not declared.
find_package(GTest REQUIRED)

function(datom_module name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;LIBS;TEST_DEPENDS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc
       ${CMAKE_CURRENT_SOURCE_DIR}/*/*.cc)
  list(FILTER sources EXCLUDE REGEX "/program/")
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  list(FILTER sources EXCLUDE REGEX "_test\\.cc$")
  set(rooms ${ARG_DEPENDS})
  list(TRANSFORM rooms PREPEND datom_)
  if(sources)
    add_library(datom_${name} STATIC ${sources})
    target_include_directories(datom_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src)
    target_link_libraries(datom_${name} PUBLIC ${rooms} PRIVATE ${ARG_LIBS})
  else()
    add_library(datom_${name} INTERFACE)
    target_include_directories(datom_${name} INTERFACE ${PROJECT_SOURCE_DIR}/src)
    target_link_libraries(datom_${name} INTERFACE ${rooms})
  endif()
  if(tests)
    set(test_rooms ${ARG_TEST_DEPENDS})
    list(TRANSFORM test_rooms PREPEND datom_)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE datom_${name} ${test_rooms} ${ARG_LIBS}
                          GTest::gmock GTest::gtest_main)
    target_compile_definitions(${name}_test PRIVATE DATOM_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
    # Half the compile time; what they test stays optimised.
    target_compile_options(${name}_test PRIVATE -O0)
    add_test(NAME ${name} COMMAND ${name}_test)
    set_tests_properties(${name} PROPERTIES TIMEOUT 900)
  endif()
endfunction()
