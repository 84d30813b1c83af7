//! Packages that only their build backend can describe.

use super::{runs, stands_on};
use crate::building::{Cleanup, built_quickly, engine, imported, project};

fn manifest(name: &str) -> String {
    format!(
        r#"{{"dependencies": ["."], "graphs": {{"agent": "./agent.py:graph"}}, "rapidclaw": {{"name": "{name}"}}}}"#
    )
}

const POETRY: &str = "[tool.poetry]\nname = \"shop\"\nversion = \"1.4\"\ndescription = \"a shop\"\nauthors = []\nreadme = \"README.md\"\n\
    [tool.poetry.dependencies]\npython = \"^3.11\"\nidna = \"^3.6\"\n[tool.poetry.scripts]\nopen-shop = \"shop.cli:main\"\n\
    [build-system]\nrequires = [\"poetry-core\"]\nbuild-backend = \"poetry.core.masonry.api\"\n";

#[tokio::test]
async fn a_change_of_code_installs_nothing_where_poetry_or_a_setup_py_describe_the_package() {
    let engine = engine().await;
    let (_one, _other) = (Cleanup("e2e-poetry"), Cleanup("e2e-setup"));
    let setup = "from setuptools import find_packages, setup\n\
        setup(name='shop', version='1.4', packages=find_packages(), install_requires=open('needs.txt').read().split(),\n\
        entry_points={'console_scripts': ['open-shop = shop.cli:main']})\n";
    for (name, description) in [("e2e-poetry", ("pyproject.toml", POETRY)), ("e2e-setup", ("setup.py", setup))] {
        let folder = tempfile::tempdir().unwrap();
        let manifest = manifest(name);
        let files = [
            ("langgraph.json", manifest.as_str()),
            description,
            ("README.md", "A shop.\n"),
            ("needs.txt", "idna>=3.6,<4\n"),
            ("agent.py", "import idna, shop\ngraph = shop.value\n"),
            ("shop/__init__.py", "value = 'one'\n"),
            ("shop/cli.py", "import shop\n\ndef main():\n    print('open', shop.value)\n"),
        ];
        let made = project(folder.path(), &files);
        let first = built_quickly(&engine, &made).await;
        assert_eq!(first.notes, Vec::<String>::new(), "{name}");
        assert_eq!(imported(&first.tag, "agent", "agent.graph, m.version('shop')"), "one 1.4", "{name}");
        assert_eq!(runs(&first.tag, &["open-shop"]), "open one", "{name}");

        std::fs::write(folder.path().join("shop/__init__.py"), "value = 'two'\n").unwrap();
        std::fs::write(folder.path().join("README.md"), "Another shop.\n").unwrap();
        let second = built_quickly(&engine, &made).await;
        assert_eq!(stands_on(&second.tag), stands_on(&first.tag), "{name}");
        assert_eq!(runs(&second.tag, &["open-shop"]), "open two", "{name}");
    }
}

#[tokio::test]
async fn a_package_that_cannot_be_described_without_its_code_is_built_with_it() {
    let engine = engine().await;
    let _cleanup = Cleanup("e2e-undescribed");
    let folder = tempfile::tempdir().unwrap();
    // Its version is worked out by a module that nothing names.
    let setup = "import importlib\nfrom setuptools import setup\n\
        setup(name='odd', version=importlib.import_module('_'.join(['odd', 'version'])).number(), install_requires=['idna'], py_modules=['odd_version'])\n";
    let manifest = manifest("e2e-undescribed");
    let files = [
        ("langgraph.json", manifest.as_str()),
        ("setup.py", setup),
        (
            "pyproject.toml",
            "[build-system]\nrequires = [\"setuptools\"]\nbuild-backend = \"setuptools.build_meta:__legacy__\"\n",
        ),
        ("odd_version.py", "def number():\n    return '8'\n"),
        ("agent.py", "import idna\ngraph = 'odd'\n"),
    ];
    let built = built_quickly(&engine, &project(folder.path(), &files)).await;
    assert!(built.notes.iter().any(|note| note.contains("installs the dependencies again")), "{:?}", built.notes);
    assert_eq!(imported(&built.tag, "agent", "agent.graph, m.version('odd')"), "odd 8");
}

#[tokio::test]
async fn scripts_and_entry_points_of_a_copied_package_are_those_of_an_installation() {
    let engine = engine().await;
    let _cleanup = Cleanup("e2e-scripts");
    let folder = tempfile::tempdir().unwrap();
    let manifest = manifest("e2e-scripts");
    let pyproject = "[project]\nname = 'shop'\nversion = '3'\n[project.scripts]\nopen-shop = 'shop.cli:main'\n\
        [project.entry-points.'shop.plugins']\none = 'shop.cli:main'\n";
    let files = [
        ("langgraph.json", manifest.as_str()),
        ("pyproject.toml", pyproject),
        ("agent.py", "import subprocess\ngraph = subprocess.check_output(['open-shop'], cwd='/', text=True).strip()\n"),
        ("src/shop/__init__.py", ""),
        ("src/shop/cli.py", "import sys\n\ndef main():\n    print('open', sys.argv[1:])\n"),
    ];
    let built = built_quickly(&engine, &project(folder.path(), &files)).await;
    let plugins = "agent.graph, [one.load().__name__ for one in m.entry_points(group='shop.plugins')]";
    assert_eq!(imported(&built.tag, "agent", plugins), "open [] ['main']");
    assert_eq!(runs(&built.tag, &["open-shop", "late"]), "open ['late']");
    assert_eq!(runs(&built.tag, &["python", "-c", "import shop.cli; print('found')"]), "found");
}
