# The few commands of hyprstream; `make help` lists them. CMake does the building
# (CMakePresets.json), scripts/bootstrap the fetching. Options for CMake go through CMAKE_ARGS, and
# every GGML_* variable is handed on by itself:
#
#   make chat GGML_CUDA=1
#   make chat CMAKE_ARGS="-DGGML_VULKAN=ON -DLLAMA_DIR=/opt/llama"

PROMPT ?= Hello
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 180
FUZZ_SEED ?= 0
CMAKE_ARGS ?=
TEST_ARGS ?=

HANDED_ON := $(sort $(filter \
	GGML_% HS_CPU_VARIANTS HS_DEPS_DIR LLAMA_DIR DUCKDB_DIR,$(.VARIABLES)))
OPTIONS = $(foreach v,$(HANDED_ON),'-D$(v)=$($(v))') $(CMAKE_ARGS)
# With an installed llama.cpp or DuckDB there is none to fetch.
BOOTSTRAP = $(foreach v,LLAMA_DIR DUCKDB_DIR,$(if $(findstring $(v)=,$(CMAKE_ARGS)),$(v)=given)) \
	scripts/bootstrap
# CMAKE_ARGS=-DHS_FLIGHT=OFF leaves out SQL and Flight SQL, and fetches nothing for them.
BUILD_STEPS = build$(if $(findstring HS_FLIGHT=OFF,$(CMAKE_ARGS)),, flight)
# `make chat` fetches nothing for them; once they are built it keeps them.
HAS_FLIGHT = $(or $(shell sed -n 's/^HS_FLIGHT:BOOL=//p' build/CMakeCache.txt 2>/dev/null),OFF)
configure = @mkdir -p "$(TMPDIR)" && cmake --preset $(1) -DHS_FLIGHT=$(or $(2),ON) $(OPTIONS)
compile = @cmake --build --preset $(1)

# Compilers and tests keep their temporary files in the checkout, too.
export TMPDIR := $(CURDIR)/deps/tmp
export PROMPT

.PHONY: help chat build deps test asan tsan coverage soak fuzz bench bench-server bench-lora \
	bench-flight references install clean distclean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

chat: ## fetch, build and run: hyprstream chat "Hello"
	@$(BOOTSTRAP) build demo
	$(call configure,release,$(HAS_FLIGHT))
	$(call compile,release) --target hyprstream
	build/bin/hyprstream chat "$$PROMPT"

build: ## fetch and build everything, into build/
	@$(BOOTSTRAP) $(BUILD_STEPS) model
	$(call configure,release)
	$(call compile,release)

deps: ## only fetch what hyprstream is built from, into deps/
	@$(BOOTSTRAP) $(BUILD_STEPS) model

test: ## fetch, build and run all tests (TEST_ARGS: more arguments for ctest)
	@$(BOOTSTRAP) $(BUILD_STEPS) model gemma python node clients browser
	$(call configure,release)
	$(call compile,release)
	@scripts/run-tests build --python $(TEST_ARGS)

asan: ## the unit tests under AddressSanitizer and UBSan
	@$(BOOTSTRAP) $(BUILD_STEPS) model
	$(call configure,asan)
	$(call compile,asan)
	@scripts/run-tests build-asan -L unit $(TEST_ARGS)

tsan: ## the unit tests (without the demo model) under ThreadSanitizer, llama.cpp too
	@$(BOOTSTRAP) $(BUILD_STEPS) model
	$(call configure,tsan)
	$(call compile,tsan)
	@scripts/run-tests build-tsan -L unit -LE demo $(TEST_ARGS)

coverage: ## the unit tests with line coverage, build-coverage/coverage.txt
	@$(BOOTSTRAP) $(BUILD_STEPS) model coverage
	$(call configure,coverage)
	$(call compile,coverage)
	@scripts/run-tests build-coverage -L unit $(TEST_ARGS)
	@gcovr --root . --filter src/ --output build-coverage/coverage.txt build-coverage
	@cat build-coverage/coverage.txt

soak: ## the tests that take long
	@$(BOOTSTRAP) $(BUILD_STEPS) model
	$(call configure,release)
	$(call compile,release)
	@scripts/run-tests build -C soak -L soak $(TEST_ARGS)

fuzz: ## every fuzz target; FUZZ_SECONDS (180) for all, FUZZ_SEED (0: any)
	@$(BOOTSTRAP) $(BUILD_STEPS) fuzz
	$(call configure,fuzz)
	$(call compile,fuzz) --target fuzzers
	@scripts/run-fuzz build-fuzz $(FUZZ_SECONDS) $(FUZZ_SEED)

bench: ## ratios to llama.cpp's own programs, side by side
	@$(BOOTSTRAP) $(BUILD_STEPS) model
	$(call configure,release)
	$(call compile,release)
	@scripts/bench-tools build
	@bench/run build

bench-server: ## hyprstream serve beside llama-server, under load
	@$(BOOTSTRAP) $(BUILD_STEPS) model
	$(call configure,release)
	$(call compile,release)
	@scripts/bench-tools build server
	@bench/server build

bench-lora: ## adapters in hyprstream serve beside llama-server
	@$(BOOTSTRAP) $(BUILD_STEPS) model gemma
	$(call configure,release)
	$(call compile,release)
	@scripts/bench-tools build server
	@bench/lora build

bench-flight: ## Flight SQL beside pyarrow's server, and generate() beside REST
	@$(BOOTSTRAP) $(BUILD_STEPS) model python
	$(call configure,release)
	$(call compile,release)
	@"$${HS_DEPS_DIR:-deps}/venv/bin/python" bench/flight build

references: ## run the reference implementations (5 GB) and write their fixtures, tests/data
	@$(BOOTSTRAP) $(BUILD_STEPS) model references
	@scripts/references

install: ## install what `make build` made to PREFIX (/usr/local)
	@test -x build/bin/hyprstream || { echo "run 'make build' first" >&2; exit 1; }
	@cmake --install build --prefix "$(PREFIX)"

clean: ## remove the build folders; llama.cpp, fetched and built, stays
	rm -rf build build-asan build-tsan build-coverage build-dev build-fuzz deps/tmp

distclean: clean ## remove llama.cpp, the demo model and the downloads, too
	rm -rf deps
