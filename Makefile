# Two commands for a fresh Debian or Ubuntu: `make demo` installs and plays, `make test` installs and tests.

VENV := .venv
PYTHON ?= python3
PLAY_PACKAGES := mpv libmpv2 ffmpeg
TEST_PACKAGES := $(PLAY_PACKAGES) xvfb lua-check lua5.1 luajit zsh fish g++

.PHONY: demo test install release clean

demo: install
	$(VENV)/bin/drba-player --demo

# First what does not measure time, in two processes; then the tests marked `alone`, one after another.
test: $(VENV)/.test-installed
	@tools/apt-install $(TEST_PACKAGES)
	$(VENV)/bin/python -m pytest -m 'not alone' --numprocesses 2 --dist worksteal --durations 15; first=$$?; \
		$(VENV)/bin/python -m pytest -m alone --durations 15 && exit $$first

# Into dist/: sdist, wheel, bill of materials, checksums; with TAG=v1.2.3 what a release needs (docs/releasing.md).
release: test
	$(VENV)/bin/python tools/release.py $(if $(TAG),--tag $(TAG)) dist
	tools/try-wheel $(PYTHON) dist/*.whl

install: $(VENV)/.installed
	@tools/apt-install $(PLAY_PACKAGES)

$(VENV)/.installed: pyproject.toml constraints.txt
	@tools/make-venv $(PYTHON) $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.test-installed: $(VENV)/.installed
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
