//! The projects: our own code in the shapes of real ones.

use super::lock;
use std::path::Path;
use std::process::Command;

/// A project, and what its graph finds in its image.
pub struct Shape {
    pub name: &'static str,
    /// Where the manifest lies.
    pub place: &'static str,
    pub manifest: &'static str,
    /// Where the graph's module lies, in which `facts()` is defined.
    pub graph: &'static str,
    pub facts: &'static str,
    /// What `facts()` says.
    pub found: &'static str,
    /// `INDEX` in them is the address of an index with a login.
    pub files: Vec<(&'static str, &'static str)>,
    pub prepare: fn(&Path),
    pub memory: Option<&'static str>,
}

const HERE: &str = r#"{"dependencies": ["."], "graphs": {"agent": "./agent.py:graph"}}"#;
const SHOP: &str = r#"{"dependencies": ["."], "graphs": {"agent": "./shop/agent.py:graph"}}"#;

fn nothing(_: &Path) {}

fn plain(name: &'static str) -> Shape {
    Shape {
        name,
        place: "langgraph.json",
        manifest: HERE,
        graph: "agent.py",
        facts: "",
        found: "",
        files: Vec::new(),
        prepare: nothing,
        memory: None,
    }
}

pub fn quick() -> Vec<Shape> {
    vec![
        Shape {
            manifest: SHOP,
            graph: "shop/agent.py",
            facts: "import importlib.metadata\nimport idna\nfrom shop.goods import GOODS\ndef facts():\n    return f\"{GOODS} {importlib.metadata.version('shop')} {idna.__version__.startswith('3.')}\"\n",
            found: "pears 1.4.2 True",
            files: vec![
                (
                    "pyproject.toml",
                    "[tool.poetry]\nname = \"shop\"\nversion = \"1.4.2\"\ndescription = \"\"\nauthors = []\nreadme = \"README.md\"\n\
                     [tool.poetry.dependencies]\npython = \"^3.11\"\nidna = \"^3.6\"\nlanggraph = \">=1.0,<2\"\n\
                     [tool.poetry.group.dev.dependencies]\npytest = \"*\"\n\
                     [build-system]\nrequires = [\"poetry-core\"]\nbuild-backend = \"poetry.core.masonry.api\"\n",
                ),
                ("README.md", "A shop.\n"),
                ("shop/__init__.py", ""),
                ("shop/goods.py", "GOODS = 'pears'\n"),
            ],
            ..plain("poetry")
        },
        Shape {
            manifest: SHOP,
            graph: "shop/agent.py",
            facts: "import importlib.metadata, pathlib\nimport idna\ndef facts():\n    text = pathlib.Path(__file__).with_name('words.txt').read_text().strip()\n    return f\"{text} {importlib.metadata.version('old-shop')}\"\n",
            found: "apples 0.9",
            files: vec![
                (
                    "setup.py",
                    "from setuptools import find_packages, setup\nsetup(name='old-shop', version='0.9', packages=find_packages(), install_requires=open('requirements.txt').read().split(), package_data={'shop': ['*.txt']})\n",
                ),
                ("requirements.txt", "langgraph>=1.0,<2\nidna>=3.6,<4\n"),
                ("shop/__init__.py", ""),
                ("shop/words.txt", "apples\n"),
            ],
            ..plain("setup")
        },
        Shape {
            place: "apps/agent/langgraph.json",
            manifest: r#"{"source": {"kind": "uv", "root": "../.."}, "graphs": {"agent": "./src/desk/agent.py:graph"}}"#,
            graph: "apps/agent/src/desk/agent.py",
            facts: "import importlib.util\nimport idna, words\ndef facts():\n    return f\"{words.WORDS} {importlib.util.find_spec('tabulate')}\"\n",
            found: "plums None",
            files: vec![
                (
                    "pyproject.toml",
                    "[project]\nname = \"everything\"\nversion = \"1\"\nrequires-python = \">=3.11\"\n[tool.uv.workspace]\nmembers = [\"apps/*\", \"libs/*\"]\n",
                ),
                (
                    "apps/agent/pyproject.toml",
                    "[project]\nname = \"desk\"\nversion = \"2\"\nrequires-python = \">=3.11\"\ndependencies = [\"words\", \"langgraph>=1.0,<2\"]\n[tool.uv.sources]\nwords = { workspace = true }\n",
                ),
                (
                    "libs/words/pyproject.toml",
                    "[project]\nname = \"words\"\nversion = \"3\"\nrequires-python = \">=3.11\"\ndependencies = [\"idna>=3\"]\n",
                ),
                (
                    "libs/other/pyproject.toml",
                    "[project]\nname = \"other\"\nversion = \"3\"\nrequires-python = \">=3.11\"\ndependencies = [\"tabulate\"]\n",
                ),
                ("apps/agent/src/desk/__init__.py", ""),
                ("libs/words/src/words/__init__.py", "WORDS = 'plums'\n"),
                ("libs/other/src/other/__init__.py", ""),
            ],
            prepare: lock,
            ..plain("workspace")
        },
        Shape {
            facts: "import importlib.metadata\nimport idna, anyio\ndef facts():\n    return importlib.metadata.version('idna')\n",
            // anyio asks for idna>=2.8; no resolution without the override gives this one.
            found: "2.7",
            files: vec![(
                "pyproject.toml",
                "[project]\nname = \"shop\"\nversion = \"1\"\nrequires-python = \">=3.11\"\ndependencies = [\"anyio\", \"langgraph>=1.0,<2\"]\n\
                 [tool.uv]\noverride-dependencies = [\"idna==2.7\"]\n",
            )],
            prepare: lock,
            ..plain("override")
        },
        Shape {
            manifest: r#"{"dependencies": ["."], "graphs": {"agent": "./src/shop/agent.py:graph"}}"#,
            graph: "src/shop/agent.py",
            facts: "import importlib.metadata, subprocess\nfrom shop.goods import GOODS\ndef facts():\n    found = importlib.metadata.entry_points(group='shop.tools')\n    said = subprocess.run(['shop-open', 'now'], capture_output=True, text=True, check=True).stdout.strip()\n    return f\"{[one.load()() for one in found]} {said}\"\n",
            found: "['saw'] open now",
            files: vec![
                (
                    "pyproject.toml",
                    "[project]\nname = \"shop\"\nversion = \"1\"\nrequires-python = \">=3.11\"\ndependencies = [\"langgraph>=1.0,<2\"]\n\
                     [project.scripts]\nshop-open = \"shop.goods:main\"\n[project.entry-points.\"shop.tools\"]\nsaw = \"shop.goods:saw\"\n\
                     [build-system]\nrequires = [\"hatchling\"]\nbuild-backend = \"hatchling.build\"\n",
                ),
                ("src/shop/__init__.py", ""),
                (
                    "src/shop/goods.py",
                    "import sys\nGOODS = 1\ndef saw():\n    return 'saw'\ndef main():\n    print('open', sys.argv[1])\n",
                ),
            ],
            ..plain("entry-points")
        },
        Shape {
            facts: "import pathlib, sqlite3\ndef facts():\n    base = sqlite3.connect(f\"file:{pathlib.Path(__file__).parent / 'data/shop.db'}?mode=ro\", uri=True)\n    return base.execute('select word from goods').fetchone()[0]\n",
            found: "cherries",
            files: vec![("requirements.txt", "langgraph>=1.0,<2\n"), (".gitignore", "*.db\nlib/\n"), ("notes.db", "")],
            prepare: |folder| {
                let script = "import os, sqlite3, sys; os.makedirs('data'); base = sqlite3.connect('data/shop.db'); base.execute('create table goods (word text)'); base.execute(\"insert into goods values ('cherries')\"); base.commit()";
                for words in [
                    &["python3", "-c", script][..],
                    &["git", "init", "-q"],
                    &["git", "add", "."],
                    &["git", "add", "-f", "data/shop.db"],
                ] {
                    assert!(Command::new(words[0]).args(&words[1..]).current_dir(folder).status().unwrap().success());
                }
            },
            ..plain("database")
        },
    ]
}

pub fn slow() -> Vec<Shape> {
    vec![
        Shape {
            manifest: r#"{"dependencies": ["."], "graphs": {"agent": "./agent.py:graph"}, "pip_config_file": "pip.conf"}"#,
            facts: "import rapidclaw_private_thing\ndef facts():\n    return rapidclaw_private_thing.value\n",
            found: "private",
            files: vec![
                ("requirements.txt", "langgraph>=1.0,<2\nrapidclaw-private-thing\n"),
                ("pip.conf", "[global]\nextra-index-url = http://ann:hunter2-of-a-shape@INDEX/simple\n"),
            ],
            ..plain("index")
        },
        Shape {
            facts: "import beside\ndef facts():\n    return beside.value\n",
            found: "beside",
            files: vec![(
                "pyproject.toml",
                "[project]\nname = \"shop\"\nversion = \"1\"\nrequires-python = \">=3.11\"\ndependencies = [\"beside\", \"langgraph>=1.0,<2\"]\n\
                 [tool.uv.sources]\nbeside = { path = \"vendor/beside-3-py3-none-any.whl\" }\n",
            )],
            prepare: |folder| crate::index::wheel(&folder.join("vendor")),
            ..plain("wheel")
        },
        Shape {
            manifest: r#"{"dependencies": ["."], "graphs": {"agent": "./src/shop/agent.py:graph"}}"#,
            graph: "src/shop/agent.py",
            facts: "from shop import goods\nfrom . import goods as same\ndef facts():\n    return f'{goods.GOODS} {goods is same}'\n",
            found: "melons True",
            files: vec![
                (
                    "pyproject.toml",
                    "[project]\nname = \"shop\"\nversion = \"1\"\nrequires-python = \">=3.11\"\ndependencies = [\"langgraph>=1.0,<2\"]\n\
                     [build-system]\nrequires = [\"setuptools\"]\nbuild-backend = \"setuptools.build_meta\"\n",
                ),
                ("src/shop/__init__.py", ""),
                ("src/shop/goods.py", "GOODS = 'melons'\n"),
            ],
            ..plain("src")
        },
        Shape {
            place: "app/langgraph.json",
            manifest: r#"{"dependencies": [".", "../one", "../two"], "graphs": {"agent": "./agent.py:graph"}}"#,
            graph: "app/agent.py",
            facts: "from company.one import ONE\nfrom company.two.deep import TWO\ndef facts():\n    return f'{ONE} {TWO}'\n",
            found: "figs dates",
            files: vec![
                ("app/requirements.txt", "langgraph>=1.0,<2\n"),
                (
                    "one/pyproject.toml",
                    "[project]\nname = \"company-one\"\nversion = \"1\"\ndependencies = [\"idna\"]\n[build-system]\nrequires = [\"hatchling\"]\nbuild-backend = \"hatchling.build\"\n[tool.hatch.build.targets.wheel]\npackages = [\"src/company\"]\n",
                ),
                ("one/src/company/one.py", "import idna\nONE = 'figs'\n"),
                (
                    "two/pyproject.toml",
                    "[project]\nname = \"company-two\"\nversion = \"1\"\ndependencies = []\n[build-system]\nrequires = [\"setuptools\"]\nbuild-backend = \"setuptools.build_meta\"\n",
                ),
                ("two/src/company/two/deep.py", "TWO = 'dates'\n"),
            ],
            ..plain("namespace")
        },
        Shape {
            manifest: r#"{"dependencies": ["."], "graphs": {"agent": "./agent.py:graph"}, "dockerfile_lines": ["RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null"]}"#,
            facts: "import subprocess\ndef facts():\n    command = ['chromium', '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--dump-dom', 'data:text/html,<p>limes</p>']\n    done = subprocess.run(command, capture_output=True, text=True, timeout=100)\n    return 'limes' if '<p>limes</p>' in done.stdout else done.stderr[-2000:]\n",
            found: "limes",
            files: vec![("requirements.txt", "langgraph>=1.0,<2\n")],
            memory: Some("2GiB"),
            ..plain("chromium")
        },
        Shape {
            facts: "import numpy, pandas\ndef facts():\n    return int(pandas.DataFrame({'a': numpy.arange(5)})['a'].sum())\n",
            found: "10",
            files: vec![("requirements.txt", "langgraph>=1.0,<2\nnumpy\npandas\n")],
            memory: Some("1GiB"),
            ..plain("numpy")
        },
    ]
}
