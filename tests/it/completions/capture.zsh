# In the zsh of typed.zsh: Tab tells what would be offered, and clears the line.
offers=()
# It asks nobody whether to show a long list.
unsetopt auto_list
compadd() {
    # Asked for its answer by another function, it offers nothing.
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then
        builtin compadd "$@"
        return
    fi
    local -a found
    builtin compadd -A found "$@"
    offers+=($found)
}
tell() {
    # zsh takes it off the list as it calls it.
    comppostfuncs=(tell)
    print -n -- "<<$offers>>"
    offers=()
}
comppostfuncs=(tell)
complete-and-clear() {
    zle complete-word
    BUFFER=
}
zle -N complete-and-clear
bindkey '^I' complete-and-clear
