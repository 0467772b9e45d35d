//! What the documents tell people to type, in their console blocks.

/// The scripts of the booted host, which runs commands of the documents as they
/// stand there: `documented FILE WORDS`, where a command begins with the words.
const BOOTED: [&str; 4] = [
    include_str!("../host/phases/clusters"),
    include_str!("../host/phases/door"),
    include_str!("../host/phases/install"),
    include_str!("../host/phases/slurm"),
];

/// Each console block with the paragraph before it.
pub fn blocks(document: &str) -> Vec<(&str, &str)> {
    let parts: Vec<&str> = document.split("```").collect();
    parts
        .chunks_exact(2)
        .filter_map(|pair| {
            let block = pair[1].strip_prefix("console\n")?;
            Some((pair[0].trim_end().rsplit("\n\n").next()?, block))
        })
        .collect()
}

/// The commands of a block, root's and others', without words about them.
pub fn commands(block: &str) -> Vec<String> {
    block
        .lines()
        .map(|line| {
            let command = line.strip_prefix("# ").or_else(|| line.strip_prefix("$ "));
            let command = command.unwrap_or_else(|| panic!("no prompt: {line}"));
            let end = command.find(" #").unwrap_or(command.len());
            command[..end].trim_end().to_owned()
        })
        .collect()
}

/// Does the booted host run this command of the document `file`?
pub fn is_run_on_the_booted_host(file: &str, command: &str) -> bool {
    let call = format!("documented {file} '");
    BOOTED
        .iter()
        .flat_map(|script| script.split(&call).skip(1))
        .filter_map(|rest| rest.split_once('\''))
        .any(|(words, _)| command.starts_with(words))
}
