// BINHDAN_DIR is the folder with lib/ and include/: the installed Python package, or a prefix of `cmake --install`.
fn main() {
    let folder = std::env::var("BINHDAN_DIR").expect("set BINHDAN_DIR to the folder with lib/ and include/");
    println!("cargo:rustc-link-search=native={folder}/lib");
    println!("cargo:rustc-link-lib=dylib=binhdan");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}/lib");
    println!("cargo:rerun-if-env-changed=BINHDAN_DIR");
}
